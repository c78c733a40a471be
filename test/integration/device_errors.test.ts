// SPDX-License-Identifier: Apache-2.0
// A disk whose medium ends before its capacity, as a device that fails: by both policies, through
// the whole daemon, and over the death of one.
import { truncateSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { eventually } from '../support/control_plane.ts';
import { MIB, sparseFile, workload } from '../support/loopback_machine.ts';
import { type RestartGuest, RestartMachine } from '../support/restart_machine.ts';

const DISK_BYTES = 8 * MIB;
const BLOCK_BYTES = 4096;

let machine: RestartMachine;
let image: string;
beforeEach(async () => {
  machine = await RestartMachine.start();
  image = sparseFile(machine.file('disk.img'), DISK_BYTES);
});
afterEach(async () => {
  await machine.close();
});

async function plug(onError: 'report' | 'stop'): Promise<RestartGuest> {
  const guest = await machine.plug(0, `aio:on-error=${onError}:${image}`);
  await guest.frontend.connect({ queues: 2 });
  const written = await guest.frontend.run(workload('write', { length: DISK_BYTES }));
  expect(written.errors).toBe(0);
  return guest;
}

async function untilFailing(guest: RestartGuest): Promise<void> {
  const failing = async () => ((await machine.show(guest))['failing'] as object) ?? undefined;
  await eventually(async () => (await failing()) !== undefined, 'a target that fails');
  expect(await failing()).toMatchObject({ error: 'EIO' });
}

const readAll = workload('read', { length: DISK_BYTES, blockBytes: BLOCK_BYTES });

it('report: the guest is told of exactly the requests that failed', async () => {
  const guest = await plug('report');
  truncateSync(image, DISK_BYTES / 2);
  const read = await guest.frontend.run(readAll);
  expect(read.errors).toBe(DISK_BYTES / 2 / BLOCK_BYTES);
  const shown = await machine.show(guest);
  expect(shown).toMatchObject({ onError: 'report', counters: { ioErrors: read.errors } });
  expect(shown['failing']).toBeUndefined();
});

it('stop: the guest waits, also for the next daemon, and goes on without an error', async () => {
  const guest = await plug('stop');
  truncateSync(image, DISK_BYTES / 2);
  let isRead = false;
  const read = guest.frontend.run(readAll).finally(() => {
    isRead = true;
  });
  await untilFailing(guest);
  expect((await machine.daemon.cli('list')).stdout).toContain('Connected (failing)');
  expect((await machine.daemon.cli('stats')).stdout).toContain('failing with EIO since');
  await machine.killAndStartDaemon();
  await untilFailing(guest);
  await sleep(300);
  expect(isRead).toBe(false);
  truncateSync(image, DISK_BYTES);
  expect(await read).toMatchObject({ errors: 0, bytes: DISK_BYTES });
  await eventually(async () => !(await machine.show(guest))['failing'], 'a target that works');
  expect((await machine.show(guest))['counters']).toMatchObject({ ioErrors: 0 });
  const { stderr } = await machine.stopDaemon('SIGTERM');
  expect(stderr).toMatch(/the target fails[\s\S]*the target works again/);
});
