// SPDX-License-Identifier: Apache-2.0
// Who else gets the two ends of a mirror, whoever comes, goes or dies when.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { deferred } from '../../../src/vbd/beside.ts';
import { ControlPlane, type Disk, eventually, quiet } from '../../support/control_plane.ts';

const COPY = '/srv/copy';
/** Another name of it, as by a link. */
const LINK = '/srv/link';
const DISK = '/srv/disk';

let plane: ControlPlane;
beforeEach(() => {
  plane = new ControlPlane();
  plane.datapath.media.set(DISK, { identity: 'dm disk' });
  for (const path of [COPY, LINK]) plane.datapath.media.set(path, { identity: 'dm copy' });
});
afterEach(async () => {
  await plane.end();
  expect(plane.datapath.held).toBe(0);
});

function attach(domid: number, path: string, devid = 51712): Promise<Disk> {
  return plane.attach({ params: `aio:${path}` }, { domid, devid });
}

function mirror(disk: Disk, target = COPY) {
  const more = { mode: 'sync', rate: 0, switchWhenReady: false } as const;
  return disk.vbd.mirror({ action: 'start', target, ...more });
}

async function mirrored(): Promise<Disk> {
  await plane.start();
  const disk = await attach(7, DISK);
  await disk.connect();
  await mirror(disk);
  return disk;
}

async function refusal(disk: Disk): Promise<string> {
  await eventually(async () => (await disk.read('hotplug-status')) === 'error', 'a refusal');
  return (await disk.read('hotplug-error')) ?? '';
}

function awayUntil(back: Promise<void>): void {
  plane.datapath.mayOpen = ({ path }) => (path === COPY ? back : Promise.resolve());
}

test('a destination that is waited for is kept, also once the guest has reconnected', async () => {
  const disk = await mirrored();
  await plane.kill();
  const back = deferred();
  awayUntil(back.promise);
  await plane.start();
  await disk.expectOurState('Connected');
  expect(disk.vbd.info().mirror).toMatchObject({ state: 'waiting' });
  // As a guest does that has been suspended.
  await disk.writeFrontend({ 'ring-ref': '9', 'event-channel': '6', state: '3' });
  await eventually(() => plane.datapath.connections.length === 3, 'another connection');
  await disk.writeFrontend({ state: '4' });
  const stranger = await attach(8, LINK);
  expect(await refusal(stranger)).toContain('part of a mirror');
  back.resolve();
  await eventually(() => disk.vbd.info().mirror?.state === 'ready', 'the mirror');
});

test('is not denied while its disk is still to be taken over', async () => {
  const disk = await mirrored();
  await plane.kill();
  const back = deferred();
  plane.datapath.mayOpen = () => back.promise;
  await plane.start();
  await disk.expectOurState('Left');
  const status = () => disk.vbd.mirror({ action: 'status' });
  await expect(status()).rejects.toMatchObject({ code: 'VBD_NOT_READY' });
  back.resolve();
  await disk.expectOurState('Connected');
  expect((await status()).mirror).toMatchObject({ target: COPY });
});

test('nor does another disk of the same VM get it while the daemon is away', async () => {
  const disk = await mirrored();
  await plane.kill();
  const back = deferred();
  awayUntil(back.promise);
  const second = await attach(7, LINK, 51728);
  await plane.start();
  await disk.expectOurState('Connected');
  expect(await refusal(second)).toContain('part of a mirror');
  back.resolve();
  await eventually(() => disk.vbd.info().mirror?.state === 'ready', 'the mirror');
});

test('a VM that starts again waits for its mirrored disk, and is not refused', async () => {
  for (const domid of [7, 8]) await plane.xenstore.write(`/local/domain/${domid}/vm`, '/vm/a');
  const disk = await mirrored();
  const over = deferred();
  plane.datapath.mayLetGo = () => over.promise;
  await disk.remove();
  await disk.writeFrontend({ state: '6' });
  await disk.expectState('6');
  const again = await attach(8, DISK);
  await quiet();
  expect(await again.read('hotplug-error')).toBeUndefined();
  over.resolve();
  await again.connect();
});

test('a destination whose claim hangs is told of, and not mirrored to later', async () => {
  await plane.start();
  const disk = await attach(7, DISK);
  await disk.connect();
  const answer = deferred();
  plane.datapath.mayClaim = ({ path }) => (path === COPY ? answer.promise : Promise.resolve());
  await expect(mirror(disk)).rejects.toThrow('has not answered for a while');
  answer.resolve();
  await quiet();
  expect(disk.vbd.info().mirror).toBeUndefined();
  plane.datapath.mayClaim = () => Promise.resolve();
  await mirror(disk);
});

test('what keeps nothing is no destination', async () => {
  await plane.start();
  const disk = await attach(7, DISK);
  await disk.connect();
  await expect(mirror(disk, 'null:1G')).rejects.toThrow('keeps nothing');
  expect(disk.vbd.info().mirror).toBeUndefined();
});
