// SPDX-License-Identifier: Apache-2.0
// Media that are exchanged, missing, shared or late, with real targets behind the guests; and a
// daemon that cannot start.
import { existsSync, mkdirSync, renameSync, rmdirSync, rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { MIB, sparseFile, workload } from '../support/loopback_machine.ts';
import { type RestartGuest, RestartMachine } from '../support/restart_machine.ts';
import { startServe } from '../support/serve_process.ts';

const BYTES = 16 * MIB;
const WAIT_MS = 15_000;

let machine: RestartMachine;
beforeEach(async () => {
  machine = await RestartMachine.start();
});
afterEach(async () => {
  await machine.close();
});

async function shows(guest: RestartGuest, expected: object, ms = WAIT_MS): Promise<void> {
  const deadline = performance.now() + ms;
  for (;;) {
    const shown = await machine.show(guest);
    try {
      expect(shown).toMatchObject(expected);
      return;
    } catch (error) {
      if (performance.now() > deadline) throw error;
    }
    await sleep(100);
  }
}

async function write({ frontend }: RestartGuest, seed: number): Promise<void> {
  const written = await frontend.run(workload('write', { length: BYTES, seed }));
  expect(written).toMatchObject({ errors: 0, bytes: BYTES });
}

async function verify({ frontend }: RestartGuest, seed: number): Promise<void> {
  const verified = await frontend.run(workload('verify', { length: BYTES, seed }));
  expect(verified).toMatchObject({ errors: 0, mismatches: 0, bytes: BYTES });
}

/** As one who looks at xenstore sees it. */
async function states({ paths }: RestartGuest): Promise<(string | undefined)[]> {
  const { backend, frontend } = paths;
  return [
    await machine.xenstore.read(`${backend}/state`),
    await machine.xenstore.read(`${frontend}/state`),
  ];
}

it('another file under the same name is never served; the right one is again', async () => {
  const guest = await machine.plug(BYTES);
  await guest.frontend.connect();
  await write(guest, 1);
  const image = machine.file('disk1.img');
  renameSync(image, `${image}.kept`);
  sparseFile(image, BYTES);
  // The daemon that has it open goes on with it.
  await verify(guest, 1);
  await machine.killAndStartDaemon();
  await shows(guest, { state: 'Left', error: expect.stringMatching(/another medium/) });
  expect(await states(guest)).toEqual(['4', '4']);
  renameSync(`${image}.kept`, image);
  // The daemon's own next try may be faster; then there is nothing left to try.
  const { stdout, stderr } = await machine.daemon.cli('retry', '1/xvda');
  expect(stdout + stderr).toMatch(/1\/xvda is Connected\.|is Connected: nothing has failed/);
  await shows(guest, { state: 'Connected' });
  await verify(guest, 1);
});

it('a file that is missing when the daemon starts is served when it is there', async () => {
  const guest = await machine.plug(BYTES);
  await guest.frontend.connect();
  await write(guest, 1);
  const image = machine.file('disk1.img');
  await machine.stopDaemon('SIGKILL');
  renameSync(image, `${image}.kept`);
  await machine.startDaemon();
  await shows(guest, { state: 'Left', error: expect.stringMatching(/tried again by itself/) });
  const verified = verify(guest, 1);
  renameSync(`${image}.kept`, image);
  await shows(guest, { state: 'Connected' });
  await verified;
});

it('an offer whose file is missing is made when it is there', async () => {
  const image = machine.file('later.img');
  const guest = await machine.plug(BYTES, `aio:${image}`);
  await shows(guest, { state: 'Initialising', error: expect.stringMatching(/later.img/) });
  expect(await machine.xenstore.read(`${guest.paths.backend}/hotplug-status`)).toBe('error');
  sparseFile(image, BYTES);
  await shows(guest, { state: 'InitWait' });
  await guest.frontend.connect();
  await write(guest, 1);
});

it('both ends of a migration use one file, and keep it over a restart', async () => {
  for (const domid of [1, 2]) await machine.xenstore.write(`/local/domain/${domid}/vm`, '/vm/a');
  const source = await machine.plug(BYTES);
  const destination = await machine.plug(BYTES, `aio:${machine.file('disk1.img')}`);
  await source.frontend.connect();
  await write(source, 1);
  await shows(destination, { state: 'InitWait' });
  await destination.frontend.connect();
  await verify(destination, 1);
  await write(destination, 2);
  await machine.killAndStartDaemon();
  await verify(source, 2);
  await verify(destination, 2);
});

it("another VM's disk is refused with the holder's name, and served later", async () => {
  const holder = await machine.plug(BYTES);
  await holder.frontend.connect();
  const other = await machine.plug(BYTES, `aio:${machine.file('disk1.img')}`);
  await shows(other, { state: 'Initialising', error: expect.stringMatching(/vbd3\/1\/51712/) });
  await holder.frontend.disconnect();
  await machine.xenstore.remove(holder.paths.backend);
  await shows(other, { state: 'InitWait' });
  await other.frontend.connect();
  await write(other, 1);
});

it('several VMs that ask for it share a file', async () => {
  const params = `aio:share:${sparseFile(machine.file('shared.img'), BYTES)}`;
  const [a, b] = [await machine.plug(BYTES, params), await machine.plug(BYTES, params)];
  await a.frontend.connect();
  await b.frontend.connect();
  await write(a, 1);
  await verify(b, 1);
});

it('a daemon that cannot make its control socket leaves every guest as it found it', async () => {
  const guest = await machine.plug(BYTES);
  await guest.frontend.connect();
  await write(guest, 1);
  await machine.stopDaemon('SIGKILL');
  const socket = machine.file('control.sock');
  if (existsSync(socket)) rmSync(socket);
  mkdirSync(socket);
  const { status, stderr } = await startServe(machine.runtimeDir).ended;
  expect([status, stderr]).toEqual([1, expect.stringMatching(/control.sock/)]);
  expect(stderr).not.toMatch(/clos(ing|ed)/);
  expect(await states(guest)).toEqual(['4', '4']);
  rmdirSync(socket);
  await machine.startDaemon();
  await verify(guest, 1);
});

it('a guest that refuses keeps its disk, until an operator forces it', async () => {
  const guest = await machine.plug(BYTES);
  await guest.frontend.connect();
  const taken = await machine.daemon.cli('disconnect', '1/xvda', '--force');
  expect(taken).toMatchObject({ status: 0, stdout: '1/xvda is disconnected.\n' });
  await guest.frontend.closedByBackend();
  expect((await states(guest))[0]).toBe('6');
});
