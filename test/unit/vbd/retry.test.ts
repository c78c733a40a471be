// SPDX-License-Identifier: Apache-2.0
// What fails for the environment's reasons is tried again; what the toolstack wrote wrong is not.
import { copyFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { DatapathError } from '../../../src/datapath/datapath.ts';
import { Backoff } from '../../../src/vbd/backoff.ts';
import {
  blkfrontNodes,
  ControlPlane,
  type Disk,
  eventually,
  quiet,
} from '../../support/control_plane.ts';

const PARAMS = 'aio:/srv/disk.img';
const SLOW = { again: { firstMs: 60_000, mostMs: 60_000, leastMs: 1 } };
const FIXTURE = fileURLToPath(new URL('../../support/records/version_1.json', import.meta.url));

let plane: ControlPlane;
beforeEach(() => {
  plane = new ControlPlane();
  plane.datapath.media.set('/srv/disk.img', { identity: 'inode 7' });
});
afterEach(async () => {
  if (plane.isStarted) await plane.end();
  expect(plane.datapath.held).toBe(0);
});

test('a VBD that was left and is closed has no error any more', async () => {
  const disk = await orphan();
  plane.datapath.openError = 'no such file';
  await plane.start();
  await expectLeft(disk, /left connected, and tried again by itself.*no such file/);
  await disk.writeFrontend({ state: '6' });
  await disk.expectState('6');
  await eventually(() => disk.vbd.info().error === undefined, 'no error');
});

function recordFile(): string {
  return path.join(plane.runtimeDir, 'vbds', 'vbd3-7-51712.json');
}

/** Connected, and its daemon is gone. */
async function orphan(params = PARAMS): Promise<Disk> {
  await plane.start();
  const disk = await plane.attach({ params });
  await disk.connect();
  await plane.kill();
  return disk;
}

async function expectLeft(disk: Disk, reason: RegExp): Promise<void> {
  await disk.expectOurState('Left');
  await eventually(
    () => reason.test(disk.vbd.info().error ?? ''),
    String(reason),
    () => disk.vbd.info().error,
  );
}

test('the times between tries double, up to a bound, and hurry when there is reason to', () => {
  let now = 1000;
  const backoff = new Backoff({ firstMs: 100, mostMs: 350, leastMs: 10 }, () => now);
  expect([backoff.dueMs, backoff.hasFailed]).toEqual([0, false]);
  for (const expected of [100, 200, 350, 350]) {
    backoff.failed();
    expect(backoff.dueMs).toBe(expected);
    now += expected;
    expect(backoff.dueMs).toBe(0);
  }
  backoff.failed();
  backoff.hurry();
  expect(backoff.dueMs).toBe(10);
  backoff.reset();
  expect([backoff.dueMs, backoff.hasFailed]).toEqual([0, false]);
  backoff.failed();
  expect(backoff.dueMs).toBe(100);
});

describe('an offer', () => {
  test('whose target is missing is refused at once, and made when it is there', async () => {
    plane.datapath.openError = 'cannot open /srv/disk.img: No such file or directory';
    await plane.start();
    const disk = await plane.attach({ params: PARAMS });
    await eventually(async () => (await disk.readError()) !== undefined, 'an error node');
    expect(await disk.read('hotplug-status')).toBe('error');
    await eventually(() => plane.datapath.opens > 3, 'more tries');
    expect(plane.lines.filter(({ msg }) => msg === 'cannot be offered')).toHaveLength(1);
    plane.datapath.openError = undefined;
    await disk.connect();
    expect(await disk.read('hotplug-status')).toBe('connected');
    expect(await disk.readError()).toBeUndefined();
    expect(await disk.read('hotplug-error')).toBeUndefined();
  });

  test('that names no target is not tried again until the nodes change', async () => {
    await plane.start();
    const disk = await plane.attach({ params: 'vhd:/srv/a.vhd' });
    await eventually(async () => (await disk.readError()) !== undefined, 'an error node');
    await quiet();
    plane.daemon.find('7/51712').mark();
    await quiet();
    expect(plane.datapath.opens).toBe(0);
    await disk.writeBackend({ params: PARAMS });
    await disk.expectState('2');
  });

  test('is tried at once when the frontend moves, or an operator asks', async () => {
    plane.datapath.openError = 'busy';
    plane.datapath.openErrorCode = 'EBUSY';
    await plane.start({}, SLOW);
    const disk = await plane.attach({ params: PARAMS });
    await eventually(async () => (await disk.readError()) !== undefined, 'an error node');
    await quiet();
    expect(plane.datapath.opens).toBe(1);
    await disk.writeFrontend({ state: '2' });
    await eventually(() => plane.datapath.opens === 2, 'a second try');
    expect((await disk.vbd.retry()).error).toMatch(/busy/);
    expect(plane.datapath.opens).toBe(3);
    plane.datapath.openError = undefined;
    expect(await disk.vbd.retry()).toMatchObject({ state: 'InitWait' });
    await disk.connect();
    await expect(disk.vbd.retry()).rejects.toMatchObject({ code: 'VBD_NOT_READY' });
  });

  test('that an operator asks for is answered when it is over, and claimed', async () => {
    let isBusy = true;
    plane.datapath.mayClaim = async () => {
      if (isBusy) throw new DatapathError('EBUSY', 'another process uses it');
    };
    await plane.start({}, { ...SLOW, openMs: 60_000 });
    const disk = await plane.attach({ params: PARAMS });
    await disk.expectState('2');
    await disk.writeFrontend({ ...blkfrontNodes, state: '3' });
    await eventually(async () => (await disk.readError()) !== undefined, 'an error node');
    isBusy = false;
    expect(await disk.vbd.retry()).toMatchObject({ state: 'Connected' });
  });

  test('a guest that comes back while the target is busy is served when it is not', async () => {
    await plane.start();
    const disk = await plane.attach({ params: PARAMS });
    await disk.connect();
    const [target] = plane.datapath.targets;
    await disk.writeFrontend({ state: '5' });
    await disk.expectState('5');
    await disk.writeFrontend({ state: '6' });
    await disk.expectState('6');
    plane.datapath.openError = 'gone for a moment';
    plane.datapath.mayOpen = () => Promise.reject(new DatapathError('EIO', 'it fails'));
    await disk.writeFrontend({ state: '1' });
    await eventually(() => target?.isOpen === false, 'that the dead target is let go of');
    plane.datapath.mayOpen = () => Promise.resolve();
    plane.datapath.openError = undefined;
    await disk.connect();
  });

  test('a data path that has no room is tried again, and the frontend is not refused', async () => {
    plane.datapath.connectError = 'no space left for the journal';
    plane.datapath.connectErrorCode = 'ENOSPC';
    await plane.start();
    const disk = await plane.attach({ params: PARAMS });
    await disk.expectState('2');
    await disk.writeFrontend({ ...blkfrontNodes, state: '3' });
    await eventually(async () => (await disk.readError()) !== undefined, 'an error node');
    expect(await disk.read('state')).toBe('2');
    plane.datapath.connectError = undefined;
    await disk.expectState('4');
  });
});

describe('a take-over', () => {
  test.each(['ENOENT', 'EIO', 'EMFILE', 'EACCES'])(
    'whose target fails with %s is made when it is there again',
    async (code) => {
      const disk = await orphan('aio:on-error=stop:/srv/disk.img');
      plane.datapath.openError = `cannot open: ${code}`;
      plane.datapath.openErrorCode = code;
      await plane.start({ onError: 'report' });
      await expectLeft(disk, /tried again by itself.*cannot open/);
      expect(await disk.read('state')).toBe('4');
      const said = plane.lines.filter(({ msg }) => msg.startsWith('left connected'));
      expect(said).toHaveLength(1);
      plane.datapath.openError = undefined;
      await disk.expectOurState('Connected');
      expect(plane.datapath.connections[1]?.options.onError).toBe('stop');
      expect(disk.vbd.info().error).toBeUndefined();
    },
  );

  test('keeps what the guest was promised of errors, whatever the configuration says', async () => {
    const disk = await orphan();
    await plane.start({ onError: 'stop' });
    await disk.expectOurState('Connected');
    expect(plane.datapath.connections[1]?.options.onError).toBe('report');
  });

  test('never serves another medium under the same path, and the right one again', async () => {
    const disk = await orphan();
    plane.datapath.media.set('/srv/disk.img', { identity: 'inode 8' });
    await plane.start();
    await expectLeft(disk, /"\/srv\/disk.img" is another medium .*inode 8, not inode 7/);
    expect(plane.datapath.connections).toHaveLength(1);
    expect(await disk.read('state')).toBe('4');
    plane.datapath.media.set('/srv/disk.img', { identity: 'inode 7' });
    await disk.expectOurState('Connected');
  });

  test('by an operator, at once, also of what was given up', async () => {
    const disk = await orphan();
    const record = recordFile();
    copyFileSync(record, `${record}.kept`);
    writeFileSync(record, '{');
    await plane.start({}, SLOW);
    await expectLeft(disk, /waiting for its frontend to reconnect: .*no JSON/);
    copyFileSync(`${record}.kept`, record);
    rmSync(`${record}.kept`);
    expect(await disk.vbd.retry()).toMatchObject({ state: 'Connected' });
  });

  test('of a record of the version before; the next one knows the medium', async () => {
    const disk = await orphan();
    copyFileSync(FIXTURE, recordFile());
    plane.datapath.media.set('/srv/disk.img', { identity: 'inode 8' });
    await plane.start();
    await disk.expectOurState('Connected');
    await plane.kill();
    plane.datapath.media.set('/srv/disk.img', { identity: 'inode 9' });
    await plane.start();
    await expectLeft(disk, /inode 9, not inode 8/);
    plane.datapath.media.set('/srv/disk.img', { identity: 'inode 8' });
    await disk.expectOurState('Connected');
  });
});
