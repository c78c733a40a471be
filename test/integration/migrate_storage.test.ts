// SPDX-License-Identifier: Apache-2.0
// A guest that moves to another host with its disk: two daemons, each with a machine of its own.
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { DISK_BYTES, expectFilled, fill } from '../support/disk_load.ts';
import { sparseFile, workload } from '../support/loopback_machine.ts';
import { type RestartGuest, RestartMachine } from '../support/restart_machine.ts';
import { start } from '../support/serve_process.ts';

let here: RestartMachine;
let there: RestartMachine;
let disk: string;
let moved: string;
beforeEach(async () => {
  [here, there] = await Promise.all([RestartMachine.start(), RestartMachine.start()]);
  disk = sparseFile(here.file('disk.img'), DISK_BYTES);
  moved = sparseFile(there.file('moved.img'), DISK_BYTES);
}, 30_000);
afterEach(async () => {
  await Promise.all([here.close(), there.close()]);
});

async function exported(): Promise<string> {
  const socket = there.file('moved.sock');
  const place = ['--socket', socket, '--name', 'moved'];
  const { stderr } = await there.daemon.cli('export', 'add', moved, ...place, '--hand-over');
  expect(stderr).toBe('');
  return `nbd:unix:${socket}:exportname=moved`;
}

async function connect(): Promise<RestartGuest> {
  const guest = await here.plug(0, `aio:${disk}`);
  await guest.frontend.connect({ queues: 2 });
  return guest;
}

/** Its new disk there: offered, and waiting until the old one is no longer written to. */
async function arriving(
  options = {},
): Promise<{ arrived: RestartGuest; connected: Promise<unknown> }> {
  const arrived = await there.plug(0, `aio:${moved}`);
  await expectWaiting(arrived);
  return { arrived, connected: arrived.frontend.connect(options) };
}

async function expectWaiting(arrived: RestartGuest): Promise<void> {
  await expect.poll(async () => (await there.show(arrived))['state']).toBe('InitWait');
}

/** The guest leaves here, and finds there what it wrote last. */
async function moves(
  guest: RestartGuest,
  { arrived, connected }: Awaited<ReturnType<typeof arriving>>,
  seed: number,
): Promise<void> {
  await here.unplug(guest);
  await connected;
  await expectFilled(arrived, seed);
}

function migrate(target: string, ...more: string[]) {
  const place = ['--runtime-dir', here.runtimeDir];
  return start(['migrate-storage', `1/xvda=${target}`, ...place, ...more]);
}

it('what it has been answered for is there when it goes on', async () => {
  const target = await exported();
  const guest = await connect();
  await guest.frontend.run(fill(1));
  const newcomer = await arriving({ queues: 2 });
  const written = guest.frontend.run(fill(2));
  const { status, stdout, stderr } = await migrate(target).ended;
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(stdout).toContain('Migrate the guest now');
  expect(await written).toMatchObject({ errors: 0 });
  await guest.frontend.run(fill(3));
  // Its new disk has been offered and waits, since this one may still be written to.
  await expectWaiting(newcomer.arrived);
  await moves(guest, newcomer, 3);
  expect(readFileSync(moved).equals(readFileSync(disk))).toBe(true);
  await there.unplug(newcomer.arrived);
}, 60_000);

it('where the toolstack fails the guest stays, with the disk that it had', async () => {
  const target = await exported();
  const guest = await connect();
  await guest.frontend.run(fill(1));
  const { status, stderr } = await migrate(target, '--run', 'echo no way; exit 7').ended;
  expect(status).toBe(1);
  expect(stderr).toContain('no way');
  expect(stderr).toContain('The command ended with status 7: the guest stays.');
  expect((await here.show(guest))['mirror']).toBeUndefined();
  await expectFilled(guest, 1);
  // The copy there is no disk for anybody, and may be tried again.
  const newcomer = await arriving();
  await sleep(1000);
  await expectWaiting(newcomer.arrived);
  expect(await migrate(target).ended).toMatchObject({ status: 0, stderr: '' });
  await guest.frontend.run(fill(2));
  await moves(guest, newcomer, 2);
  await there.unplug(newcomer.arrived);
}, 60_000);

it('a daemon that is killed meanwhile does not end it, on neither side', async () => {
  const target = await exported();
  const guest = await connect();
  await guest.frontend.run(fill(1));
  const migration = migrate(target, '--rate', '16M');
  await expect.poll(async () => (await here.show(guest))['mirror']).toBeDefined();
  await here.killAndStartDaemon();
  await there.killAndStartDaemon();
  const { status, stderr } = await migration.ended;
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  const newcomer = await arriving();
  await moves(guest, newcomer, 1);
  await there.unplug(newcomer.arrived);
}, 60_000);

it('interrupted twice while no daemon answers it says what is left', async () => {
  const target = await exported();
  const guest = await connect();
  await guest.frontend.run(fill(1));
  const migration = migrate(target, '--rate', '1M', '--json');
  await expect
    .poll(async () => (await here.show(guest))['mirror'], { timeout: 20_000 })
    .toBeDefined();
  here.daemon.started.child.kill('SIGSTOP');
  migration.child.kill('SIGINT');
  await sleep(1000);
  migration.child.kill('SIGINT');
  const { status, signal, stdout } = await migration.ended;
  here.daemon.started.child.kill('SIGCONT');
  expect({ status, signal }).toEqual({ status: 130, signal: null });
  const { error } = JSON.parse(stdout);
  expect(error).toMatchObject({ code: 'INTERRUPTED', exitCode: 130 });
  expect(error.message).toContain('mirrored no more: vbd3/1/51712');
}, 60_000);

it('interrupted it leaves nothing behind', async () => {
  const target = await exported();
  const guest = await connect();
  await guest.frontend.run(fill(1));
  const migration = migrate(target, '--rate', '1M');
  await expect.poll(async () => (await here.show(guest))['mirror']).toBeDefined();
  migration.child.kill('SIGINT');
  const { status, stderr } = await migration.ended;
  expect(status).toBe(130);
  expect(stderr).toContain('nothing has moved');
  expect((await here.show(guest))['mirror']).toBeUndefined();
  expect(await guest.frontend.run(workload('read'))).toMatchObject({ errors: 0 });
  await here.unplug(guest);
}, 60_000);
