// SPDX-License-Identifier: Apache-2.0
// Disks that are named by an export of the same daemon, as XAPI names them: one open target, not a
// client of the daemon's own.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ControlPlane, type Disk, eventually } from '../../support/control_plane.ts';

const SOURCE = '/srv/disk.img';
let plane: ControlPlane;
let params: string;

beforeEach(async () => {
  plane = new ControlPlane();
  plane.datapath.media.set(SOURCE, { identity: 'inode 7' });
  await plane.start();
  params = `nbd:unix:${plane.runtimeDir}/nbd/volume.sock:exportname=volume`;
});
afterEach(async () => {
  plane.datapath.mayLetGo = () => Promise.resolve();
  await plane.end();
  expect(plane.datapath.held).toBe(0);
});

async function exported(): Promise<void> {
  const { oldUri } = await plane.daemon.exports.add({ source: SOURCE, name: 'volume' });
  expect(oldUri).toBe(params);
}

async function connected(domid: number): Promise<Disk> {
  const disk = await plane.attach({ params }, { domid });
  await disk.expectState('2');
  await disk.connect();
  return disk;
}

function openPaths(): string[] {
  return plane.datapath.targets.filter(({ isOpen }) => isOpen).map(({ spec }) => spec.path);
}

test('the disk and its export are one open target, claimed once', async () => {
  await exported();
  await connected(7);
  expect(openPaths()).toEqual([SOURCE]);
  const [disk] = plane.daemon.vbds();
  expect(disk?.info().target).toMatchObject({ spec: params, path: SOURCE });
  expect(plane.datapath.targets[0]?.claimed).toEqual({ share: false, takeOver: false });
});

test('a disk of another VM by the same export is refused', async () => {
  await exported();
  await connected(7);
  const second = await plane.attach({ params }, { domid: 8 });
  await eventually(async () => (await second.read('hotplug-status')) === 'error', 'a refusal');
  expect(await second.read('hotplug-error')).toMatch(/in use by vbd3\/7\/51712 \(domain 7\)/);
});

test('a daemon that comes after knows what names disks before it looks for them', async () => {
  await exported();
  await plane.kill();
  const disk = await plane.attach({ params }, { domid: 7 });
  await plane.start();
  await disk.expectState('2');
  expect(openPaths().every((path) => path === SOURCE)).toBe(true);
});

test('it is drained when the last I/O of the disk is over, and not before', async () => {
  await exported();
  const disk = await connected(7);
  const drain = (domid?: number) => plane.daemon.exports.drain('volume', domid, 60);
  expect(await drain()).toEqual(['vbd3/7/51712']);
  expect(await drain(8)).toEqual([]);
  let letGo = () => {};
  plane.datapath.mayLetGo = () => new Promise<void>((resolve) => (letGo = resolve));
  await disk.deleteBackend();
  await eventually(() => plane.daemon.vbds().length === 0, 'it is gone');
  expect(await drain(7)).toEqual(['vbd3/7/51712']);
  const over = plane.daemon.exports.drain('volume', 7, 5000);
  letGo();
  expect(await over).toEqual([]);
});
