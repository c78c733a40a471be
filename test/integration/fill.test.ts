// SPDX-License-Identifier: Apache-2.0
// Disks that are filled from a source while their guests use them, through the whole daemon.
import { existsSync, renameSync, rmSync, statSync, truncateSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { eventually } from '../support/control_plane.ts';
// @ts-expect-error: JavaScript, which the benchmarks use as well
import * as media from '../support/hanging_media.mjs';
import { killHelpers, makeImage } from '../support/images.ts';
import { MIB, sparseFile, workload } from '../support/loopback_machine.ts';
import { type RestartGuest, RestartMachine } from '../support/restart_machine.ts';

const DISK_BYTES = 16 * MIB;
const HALF = DISK_BYTES / 2;
const SOURCE_SEED = 3;
const GUEST_SEED = 4;

interface HangingMedium {
  readonly params: string;
  hang(): void;
  goOn(): void;
  remove(): Promise<void>;
}

let machine: RestartMachine;
let source: string;
let disk: string;
beforeEach(async () => {
  machine = await RestartMachine.start();
  source = sparseFile(machine.file('source.img'), DISK_BYTES);
  disk = sparseFile(machine.file('disk.img'), DISK_BYTES);
  const maker = await machine.plug(0, `aio:${source}`);
  await maker.frontend.connect();
  await maker.frontend.run(workload('write', { length: DISK_BYTES, seed: SOURCE_SEED }));
  await machine.unplug(maker);
}, 30_000);
afterEach(async () => {
  await machine.close();
});

async function connect(params: string, queues = 2): Promise<RestartGuest> {
  const guest = await machine.plug(0, params);
  await guest.frontend.connect({ queues });
  return guest;
}

async function fillOf(guest: RestartGuest): Promise<Record<string, unknown>> {
  return (await machine.show(guest))['fill'] as Record<string, unknown>;
}

async function untilState(guest: RestartGuest, state: string): Promise<void> {
  for (let tries = 0; (await fillOf(guest))['state'] !== state; tries++) {
    if (tries > 100) throw new Error(`${state} is late: ${JSON.stringify(await fillOf(guest))}`);
    await sleep(50);
  }
}

async function untilFull(guest: RestartGuest): Promise<void> {
  await untilState(guest, 'full');
}

async function fillCommand(name: string, guest: RestartGuest, ...more: string[]) {
  const { stdout } = await machine.daemon.cli('fill', name, `${guest.paths.domid}/xvda`, ...more);
  return stdout;
}

/** The source's data but for the first half, where the guest has written. */
async function expectBoth({ frontend }: RestartGuest): Promise<void> {
  const written = workload('verify', { length: HALF, seed: GUEST_SEED });
  expect(await frontend.run(written)).toMatchObject({ errors: 0, mismatches: 0 });
  const sourced = workload('verify', { offset: HALF, length: HALF, seed: SOURCE_SEED });
  expect(await frontend.run(sourced)).toMatchObject({ errors: 0, mismatches: 0 });
}

it('a guest reads what is elsewhere at once, and in the end the source is not needed', async () => {
  const guest = await connect(`fill:rate=1M:${disk}::${source}`);
  expect(await fillOf(guest)).toMatchObject({ state: 'filling', rate: MIB, bytes: DISK_BYTES });
  const length = 2 * MIB;
  const read = workload('verify', { offset: HALF, length, seed: SOURCE_SEED, blockBytes: 4096 });
  expect(await guest.frontend.run(read)).toMatchObject({ errors: 0, mismatches: 0 });
  expect((await machine.daemon.cli('list')).stdout).toMatch(/Connected \(filling \d+ %\)/);
  expect(await fillCommand('rate', guest, 'off')).toContain('as fast as it goes');
  await untilFull(guest);
  renameSync(source, `${source}.gone`);
  const whole = workload('verify', { length: DISK_BYTES, seed: SOURCE_SEED });
  expect(await guest.frontend.run(whole)).toMatchObject({ errors: 0, mismatches: 0 });
  // Nor to whoever comes next.
  await machine.killAndStartDaemon();
  expect(await guest.frontend.run(whole)).toMatchObject({ errors: 0, mismatches: 0 });
  expect(await fillCommand('status', guest)).toContain('full');
}, 60_000);

it('killed again and again while it is written and filled: nothing is lost', async () => {
  const guest = await connect(`on-error=stop:fill:rate=2M:${disk}::${source}`);
  let isOver = false;
  const load = (async () => {
    for (let pass = 0; pass < 3; pass++) {
      // Small blocks first, so that most chunks are written in part while they are elsewhere.
      const blockBytes = pass === 0 ? 4096 : 65536;
      const write = workload('write', { length: HALF, seed: GUEST_SEED, blockBytes });
      expect(await guest.frontend.run(write)).toMatchObject({ errors: 0 });
      await guest.frontend.run(workload('flush', { blockBytes: 4096, bytes: 4 * 4096 }));
    }
    isOver = true;
  })();
  for (let kills = 0; !isOver || kills < 4; kills++) {
    await sleep(50 + 200 * Math.random());
    await machine.killAndStartDaemon();
  }
  await load;
  await expectBoth(guest);
  await fillCommand('rate', guest, 'off');
  await untilFull(guest);
  await expectBoth(guest);
}, 120_000);

it('what is here stays here over a clean end, and the pause ends the job alone', async () => {
  const params = `fill:${disk}::${source}`;
  const guest = await connect(`fill:rate=1K:${disk}::${source}`);
  expect(await fillCommand('pause', guest)).toContain('paused');
  const write = workload('write', { length: HALF, seed: GUEST_SEED });
  expect(await guest.frontend.run(write)).toMatchObject({ errors: 0 });
  const { bytesHere } = await fillOf(guest);
  await sleep(300);
  expect((await fillOf(guest))['bytesHere']).toBe(bytesHere);
  await machine.unplug(guest);
  const again = await connect(params);
  expect((await fillOf(again))['bytesHere']).toBeGreaterThanOrEqual(bytesHere as number);
  await untilFull(again);
  await expectBoth(again);
}, 60_000);

it('a source that fails fails reads of what is not here, and the job tries again', async () => {
  truncateSync(source, DISK_BYTES);
  const guest = await connect(`fill:rate=1K:${disk}::${source}`);
  const write = workload('write', { length: HALF, seed: GUEST_SEED });
  expect(await guest.frontend.run(write)).toMatchObject({ errors: 0 });
  truncateSync(source, HALF);
  const read = workload('read', { offset: HALF, length: HALF });
  expect((await guest.frontend.run(read)).errors).toBeGreaterThan(0);
  const verify = workload('verify', { length: HALF, seed: GUEST_SEED });
  expect(await guest.frontend.run(verify)).toMatchObject({ errors: 0, mismatches: 0 });
  await fillCommand('rate', guest, 'off');
  await untilState(guest, 'failing');
  expect(await fillOf(guest)).toMatchObject({ error: 'EIO' });
  truncateSync(source, DISK_BYTES);
  // At once.
  await fillCommand('resume', guest);
  await untilFull(guest);
  expect(await guest.frontend.run(read)).toMatchObject({ errors: 0 });
}, 60_000);

it('who takes over while the source is away serves what is here, and finds it', async () => {
  const guest = await connect(`fill:rate=1K:${disk}::${source}`);
  const write = workload('write', { length: HALF, seed: GUEST_SEED });
  expect(await guest.frontend.run(write)).toMatchObject({ errors: 0 });
  await machine.stopDaemon('SIGKILL');
  renameSync(source, `${source}.away`);
  await machine.startDaemon();
  const verify = workload('verify', { length: HALF, seed: GUEST_SEED });
  expect(await guest.frontend.run(verify)).toMatchObject({ errors: 0, mismatches: 0 });
  const missing = workload('read', { offset: HALF, length: MIB });
  expect((await guest.frontend.run(missing)).errors).toBeGreaterThan(0);
  // Another one in its place is not taken for it.
  sparseFile(source, DISK_BYTES);
  await sleep(1500);
  expect((await guest.frontend.run(missing)).errors).toBeGreaterThan(0);
  renameSync(`${source}.away`, source);
  await fillCommand('rate', guest, 'off');
  await untilFull(guest);
  await expectBoth(guest);
}, 60_000);

it.skipIf(media.missingForHanging())(
  'a source that hangs holds up what is not here alone, and no end of the daemon',
  async () => {
    const medium: HangingMedium = await media.onStoppedFuse(DISK_BYTES);
    try {
      const guest = await connect(`fill:rate=1K:${disk}::${medium.params.replace('aio:', '')}`);
      const write = workload('write', { length: HALF, seed: GUEST_SEED });
      expect(await guest.frontend.run(write)).toMatchObject({ errors: 0 });
      medium.hang();
      const missing = guest.frontend.run(workload('read', { offset: HALF, length: MIB, depth: 2 }));
      await sleep(1500);
      expect((await machine.daemon.cli('list')).stdout).toContain("hangs in source's read");
      expect((await machine.daemon.cli('stats')).stdout).toContain(': filling 5');
      const { stderr } = await machine.stopDaemon('SIGKILL');
      expect(stderr).not.toContain('assertion');
      await machine.startDaemon();
      // The next one has taken the guest over, though the source cannot even be opened.
      const here = workload('verify', { length: HALF, seed: GUEST_SEED });
      const state = async () => (await machine.show(guest))['state'];
      await eventually(async () => (await state()) === 'Connected', 'a take-over');
      expect((await fillOf(guest))['bytesHere']).toBeGreaterThanOrEqual(HALF);
      medium.goOn();
      expect(await missing).toMatchObject({ errors: 0, bytes: MIB });
      expect(await guest.frontend.run(here)).toMatchObject({ errors: 0, mismatches: 0 });
      await machine.stopDaemon('SIGKILL');
    } finally {
      medium.goOn();
      await machine.close();
      await medium.remove();
    }
  },
  60_000,
);

it('what does not fit is refused with a sentence', async () => {
  const refused = async (params: string) => {
    const guest = await machine.plug(0, params);
    await eventually(async () => (await machine.show(guest))['error'] !== undefined, 'an error');
    return (await machine.show(guest))['error'];
  };
  const small = sparseFile(machine.file('small.img'), MIB);
  expect(await refused(`fill:${small}::${source}`)).toContain('make it at least as large');
  expect(await refused(`fill:${disk}::${machine.file('none.img')}`)).toContain('the source of');

  const guest = await connect(`fill:rate=1K:${disk}::${source}`);
  expect(statSync(`${disk}.fill`).mode & 0o777).toBe(0o600);
  await machine.unplug(guest);
  rmSync(source);
  sparseFile(machine.file('other.img'), DISK_BYTES);
  renameSync(machine.file('other.img'), source);
  expect(await refused(`fill:${disk}::${source}`)).toContain('another medium than when the fill');
  truncateSync(source, HALF);
  expect(await refused(`fill:${disk}::${source}`)).toContain('when the fill began');
  rmSync(disk);
  sparseFile(disk, DISK_BYTES);
  expect(await refused(`fill:${disk}::${source}`)).toContain('another disk than');
  expect(existsSync(`${disk}.fill`)).toBe(true);
}, 60_000);

it('a disk that is not filled has no fill', async () => {
  const guest = await connect(`aio:${disk}`);
  const { stderr } = await machine.daemon.cli('fill', 'status', `${guest.paths.domid}/xvda`);
  expect(stderr).toContain('is not filled from a source');
});

it('from an image: what is here needs no program that serves it', async () => {
  const image = makeImage('qcow2', machine.file('source.qcow2'), undefined, ['raw', source]);
  const params = `on-error=stop:fill:rate=1K:${disk}::qcow2:${image}`;
  const guest = await connect(params);
  expect(await guest.frontend.run(workload('write', { length: HALF, seed: GUEST_SEED }))).toEqual(
    expect.objectContaining({ errors: 0 }),
  );
  await machine.stopDaemon('SIGKILL');
  killHelpers(machine.runtimeDir);
  renameSync(image, `${image}.away`);
  await machine.startDaemon();
  const here = workload('verify', { length: HALF, seed: GUEST_SEED });
  expect(await guest.frontend.run(here)).toMatchObject({ errors: 0, mismatches: 0 });
  renameSync(`${image}.away`, image);
  await fillCommand('rate', guest, 'off');
  await untilFull(guest);
  await expectBoth(guest);
  await machine.unplug(guest);
  rmSync(image);
  const again = await connect(params);
  await expectBoth(again);
}, 60_000);
