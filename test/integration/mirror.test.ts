// SPDX-License-Identifier: Apache-2.0
// Disks that are mirrored while their guests use them, through the whole daemon.
import { readFileSync, renameSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
// @ts-expect-error: JavaScript, which the benchmarks use as well
import * as media from '../support/hanging_media.mjs';
import { allocatedBytes, MIB, sparseFile, workload } from '../support/loopback_machine.ts';
import { type RestartGuest, RestartMachine } from '../support/restart_machine.ts';

const DISK_BYTES = 16 * MIB;
const HALF = DISK_BYTES / 2;
const SEED = 3;

let machine: RestartMachine;
let disk: string;
let copy: string;
beforeEach(async () => {
  machine = await RestartMachine.start();
  disk = sparseFile(machine.file('disk.img'), DISK_BYTES);
  copy = sparseFile(machine.file('copy.img'), DISK_BYTES);
}, 30_000);
afterEach(async () => {
  await machine.close();
});

async function connect(params = `aio:${disk}`, queues = 2): Promise<RestartGuest> {
  const guest = await machine.plug(0, params);
  await guest.frontend.connect({ queues });
  return guest;
}

async function mirror(guest: RestartGuest, name: string, ...more: string[]) {
  const vbd = `${guest.paths.domid}/xvda`;
  const { stdout, stderr } = await machine.daemon.cli('mirror', name, vbd, ...more);
  return stdout + stderr;
}

async function mirrorOf(guest: RestartGuest): Promise<Record<string, unknown> | undefined> {
  return (await machine.show(guest))['mirror'] as Record<string, unknown> | undefined;
}

async function until(guest: RestartGuest, state: string | undefined): Promise<void> {
  for (let tries = 0; (await mirrorOf(guest))?.['state'] !== state; tries++) {
    if (tries > 150) throw new Error(`${state} is late: ${JSON.stringify(await mirrorOf(guest))}`);
    await sleep(50);
  }
}

async function write(guest: RestartGuest, options: Partial<Parameters<typeof workload>[1]> = {}) {
  const result = await guest.frontend.run(
    workload('write', { length: DISK_BYTES, seed: SEED, ...options }),
  );
  expect(result).toMatchObject({ errors: 0 });
}

async function verify(guest: RestartGuest, options: Partial<Parameters<typeof workload>[1]> = {}) {
  const result = await guest.frontend.run(
    workload('verify', { length: DISK_BYTES, seed: SEED, ...options }),
  );
  expect(result).toMatchObject({ errors: 0, mismatches: 0 });
}

function expectAlike(): void {
  expect(readFileSync(copy).equals(readFileSync(disk))).toBe(true);
}

it('a sparse disk is copied without its holes, and what is written goes to both', async () => {
  const guest = await connect();
  await write(guest, { length: 2 * MIB });
  expect(await mirror(guest, 'start', copy)).toContain('copy: the target follows');
  await until(guest, 'following');
  expectAlike();
  expect(allocatedBytes(copy)).toBeLessThan(4 * MIB);
  await write(guest, { offset: HALF, length: MIB });
  await until(guest, 'following');
  expectAlike();
  // A frontend that comes back is mirrored, too.
  await guest.frontend.reconnect();
  await write(guest, { offset: HALF + MIB, length: MIB });
  await until(guest, 'following');
  expectAlike();
  expect(await mirror(guest, 'set', '--mode', 'sync')).toContain('sync');
  await until(guest, 'ready');
  expect((await machine.daemon.cli('list')).stdout).toContain('Connected (mirror ready)');
  await write(guest, { offset: HALF, length: 4 * MIB, blockBytes: 4096 });
  expectAlike();
  expect(await mirror(guest, 'stop')).toContain('is not mirrored');
  await write(guest);
  await verify(guest);
  expect(readFileSync(copy).equals(readFileSync(disk))).toBe(false);
}, 60_000);

it('killed again and again under load, it goes on, and the guest is switched', async () => {
  const guest = await connect(`on-error=stop:aio:${disk}`);
  await write(guest);
  await mirror(guest, 'start', copy, '--rate', '4M', '--mode', 'sync');
  let isOver = false;
  const load = (async () => {
    for (let pass = 0; pass < 3; pass++) {
      await write(guest, { length: HALF, seed: 10 + pass, blockBytes: pass === 0 ? 4096 : 65536 });
    }
    isOver = true;
  })();
  for (let kills = 0; !isOver || kills < 4; kills++) {
    await sleep(50 + 200 * Math.random());
    await machine.killAndStartDaemon();
  }
  await load;
  expect(await mirrorOf(guest)).toMatchObject({ mode: 'sync', rate: 4 * MIB });
  await mirror(guest, 'set', '--rate', 'off');
  await until(guest, 'ready');
  expectAlike();
  const running = write(guest, { length: HALF, seed: 20, bytes: 8 * HALF });
  expect(await mirror(guest, 'switch')).toContain(`is file ${copy} now`);
  await running;
  const { target } = await machine.show(guest);
  expect(target).toMatchObject({ spec: `on-error=stop:aio:${disk}`, path: copy, isSwitched: true });
  renameSync(disk, `${disk}.gone`);
  // Nor does whoever comes next need what it was.
  await machine.killAndStartDaemon();
  await verify(guest, { length: HALF, seed: 20 });
  await verify(guest, { offset: HALF, length: HALF });
  expect((await machine.show(guest))['target']).toMatchObject({ path: copy, isSwitched: true });
}, 120_000);

it('with --switch it becomes the disk by itself, while it is written', async () => {
  const guest = await connect();
  await write(guest);
  let isOver = false;
  const load = (async () => {
    for (let seed = 30; !isOver; seed++) {
      await write(guest, { length: HALF, seed });
      await verify(guest, { length: HALF, seed });
    }
  })();
  await mirror(guest, 'start', copy, '--switch');
  await until(guest, undefined);
  isOver = true;
  await load;
  await verify(guest, { offset: HALF, length: HALF });
  expect((await machine.show(guest))['target']).toMatchObject({ path: copy });
  // A frontend that comes back gets what the disk is now.
  await guest.frontend.reconnect();
  await verify(guest, { offset: HALF, length: HALF });
  expect((await machine.show(guest))['target']).toMatchObject({ path: copy });
}, 60_000);

it.skipIf(media.missingForHanging())(
  'a target that hangs holds a guest up for some seconds once, and no end of the daemon',
  async () => {
    const medium = await media.onStoppedFuse(DISK_BYTES);
    try {
      const guest = await connect();
      await write(guest);
      await mirror(guest, 'start', medium.params.replace('aio:', ''), '--mode', 'sync');
      await until(guest, 'ready');
      medium.hang();
      const started = performance.now();
      await write(guest, { seed: 7, length: HALF });
      expect(performance.now() - started).toBeLessThan(20_000);
      await until(guest, 'failed');
      expect(await mirrorOf(guest)).toMatchObject({
        error: 'its target has not answered for too long',
      });
      expect(await mirror(guest, 'switch')).toContain('has failed');
      await verify(guest, { seed: 7, length: HALF });
      await machine.killAndStartDaemon();
      await verify(guest, { seed: 7, length: HALF });
      expect(await mirrorOf(guest)).toMatchObject({ state: 'failed' });
      await mirror(guest, 'stop');
      expect(await mirrorOf(guest)).toBeUndefined();
    } finally {
      medium.goOn();
      await machine.close();
      await medium.remove();
    }
  },
  60_000,
);

it('who takes over while the target is away serves the guest, and goes on later', async () => {
  const guest = await connect();
  await write(guest);
  await mirror(guest, 'start', copy, '--mode', 'sync');
  await until(guest, 'ready');
  await machine.stopDaemon('SIGKILL');
  renameSync(copy, `${copy}.away`);
  await machine.startDaemon();
  await write(guest, { length: MIB, seed: 8 });
  expect(await mirrorOf(guest)).toMatchObject({ state: 'waiting' });
  renameSync(`${copy}.away`, copy);
  await until(guest, 'ready');
  expectAlike();
  // A guest that goes ends it.
  await machine.unplug(guest);
  const again = await connect();
  expect(await mirrorOf(again)).toBeUndefined();
}, 60_000);

it('to an export, whose server is killed: tried again, and then ended', async () => {
  const guest = await connect();
  await write(guest);
  const other = await machine.plug(0, `aio:${copy}`);
  await other.frontend.connect();
  const vbd = `${other.paths.domid}/xvda`;
  const socket = machine.file('copy.sock');
  await machine.daemon.cli(
    'export',
    'add',
    vbd,
    '--socket',
    socket,
    '--name',
    'c',
    '--allow-writers',
  );
  await mirror(guest, 'start', `nbd:unix:${socket}:exportname=c`, '--mode', 'sync');
  await until(guest, 'ready');
  await write(guest, { seed: 9, length: HALF });
  expectAlike();
  await machine.daemon.cli('export', 'remove', 'c');
  await write(guest, { seed: 10, length: HALF });
  await until(guest, 'failed');
  await verify(guest, { seed: 10, length: HALF });
}, 60_000);

it('what cannot be is refused with a sentence', async () => {
  const guest = await connect();
  expect(await mirror(guest, 'status')).toContain('is not mirrored');
  expect(await mirror(guest, 'start', disk)).toContain('is the disk itself');
  const small = sparseFile(machine.file('small.img'), MIB);
  expect(await mirror(guest, 'start', small)).toContain('make it at least as large');
  expect(await mirror(guest, 'start', machine.file('none.img'))).toContain('No such file');
  expect(await mirror(guest, 'start', `fill:${copy}::${disk}`)).toContain('cannot be a mirror');
  expect(await mirror(guest, 'start', `share:${copy}`)).toContain('has options');
  const other = await machine.plug(0, `aio:${copy}`);
  await other.frontend.connect();
  expect(await mirror(guest, 'start', copy)).toContain('in use by');
  await machine.unplug(other);
  const reader = await machine.plug(0, `aio:${copy}`, 'r');
  await reader.frontend.connect();
  expect(await mirror(reader, 'start', small)).toContain('read only');
  await machine.unplug(reader);

  const vbd = `${guest.paths.domid}/xvda`;
  const exported = (...more: string[]) => machine.daemon.cli('export', 'add', vbd, ...more);
  await exported('--allow-writers');
  expect(await mirror(guest, 'start', copy)).toContain('writes to the target of');
  await machine.daemon.cli('export', 'remove', `${guest.paths.domid}-xvda`);
  expect(await mirror(guest, 'start', copy)).toContain('mirror target');
  expect((await exported('--allow-writers')).stderr).toContain(
    'would miss what another one writes',
  );
  expect((await exported('--read-only')).stderr).toBe('');
  expect(await mirror(guest, 'switch')).toContain('uses the disk');
  expect(await mirror(guest, 'start', small)).toContain('already');
  expect((await machine.daemon.cli('resize', vbd)).stderr).toContain('mirrored');
}, 60_000);
