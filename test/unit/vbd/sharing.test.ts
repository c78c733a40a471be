// SPDX-License-Identifier: Apache-2.0
// One open target per medium: who shares it, who is refused, and who may wait.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { DatapathError } from '../../../src/datapath/datapath.ts';
import {
  blkfrontNodes,
  ControlPlane,
  type Disk,
  eventually,
  quiet,
} from '../../support/control_plane.ts';

const PARAMS = 'aio:/srv/disk.img';

let plane: ControlPlane;
beforeEach(() => {
  plane = new ControlPlane();
  plane.datapath.media.set('/srv/disk.img', { identity: 'inode 7' });
  plane.datapath.media.set('/srv/link', { identity: 'inode 7' });
});
afterEach(async () => {
  plane.datapath.mayLetGo = () => Promise.resolve();
  await plane.end();
  expect(plane.datapath.held).toBe(0);
});

/** Of the toolstack: which VM a domain is. */
async function domain(domid: number, nodes: { vm?: string; target?: string }): Promise<void> {
  for (const [node, value] of Object.entries(nodes)) {
    await plane.xenstore.write(`/local/domain/${domid}/${node}`, value);
  }
}

function openTargets(): number {
  return plane.datapath.targets.filter(({ isOpen }) => isOpen).length;
}

async function refusal(disk: Disk): Promise<string> {
  await eventually(async () => (await disk.read('hotplug-status')) === 'error', 'a refusal');
  return (await disk.read('hotplug-error')) ?? '';
}

/** Those that were, when each has its answer. */
async function whoIsOffered(disks: Disk[]): Promise<Disk[]> {
  const words = () => Promise.all(disks.map((disk) => disk.read('hotplug-status')));
  await eventually(async () => !(await words()).includes(undefined), 'answers', words);
  const found = await words();
  return disks.filter((_disk, index) => found[index] === 'connected');
}

async function offered(domid: number, nodes = {}): Promise<Disk> {
  const disk = await plane.attach({ params: PARAMS, ...nodes }, { domid });
  await disk.expectState('2');
  return disk;
}

test('null is no medium: any number of VMs may have it, found at the same time', async () => {
  const nulls = [7, 8, 9].map((domid) => plane.attach({ params: 'null:8388608' }, { domid }));
  const disks = await Promise.all(nulls);
  await plane.start();
  expect(await whoIsOffered(disks)).toHaveLength(3);
});

describe('one VM', () => {
  test('both ends of a migration within the host use one open target, claimed once', async () => {
    await domain(7, { vm: '/vm/a' });
    await domain(8, { vm: '/vm/a' });
    await plane.start();
    const source = await offered(7);
    await source.connect();
    const destination = await offered(8);
    expect(openTargets()).toBe(1);
    await destination.connect();
    const [first, second] = plane.datapath.connections;
    expect(second?.target).toBe(first?.target);
    expect(first?.target.claimed).toEqual({ share: false, takeOver: false });
    await source.writeFrontend({ state: '6' });
    await source.remove();
    await source.expectState('6');
    await source.deleteBackend();
    await eventually(() => plane.daemon.vbds().length === 1, 'one VBD');
    expect(openTargets()).toBe(1);
    expect(second?.isConnected).toBe(true);
  });

  test('that was offered before the other end went waits for its I/O at the connect', async () => {
    await domain(7, { vm: '/vm/a' });
    await domain(8, { vm: '/vm/a' });
    await plane.start();
    const [source, destination] = [await offered(7), await offered(8)];
    for (let turn = 0; turn < 2; turn++) {
      await source.connect();
      let letGo = () => {};
      plane.datapath.mayLetGo = () =>
        new Promise<void>((resolve) => {
          letGo = resolve;
        });
      await source.remove();
      await source.writeFrontend({ state: '6' });
      await source.expectState('6');
      await destination.writeFrontend({ ...blkfrontNodes, state: '3' });
      await quiet();
      expect(await destination.read('state')).toBe('2');
      plane.datapath.mayLetGo = () => Promise.resolve();
      letGo();
      await destination.expectState('4');
      // The other end comes back, and this one starts over.
      for (const state of ['4', '5', '6', '1']) {
        await destination.writeFrontend({ state });
        await destination.expectState(state === '1' ? '2' : state);
      }
      await source.writeBackend({ online: '1' });
      await source.writeFrontend({ state: '1' });
    }
  });

  test('waits for the I/O of its other domain that starts over and keeps the medium', async () => {
    await domain(7, { vm: '/vm/a' });
    await domain(8, { vm: '/vm/a' });
    await plane.start();
    const [one, other] = [await offered(7), await offered(8)];
    await one.connect();
    let letGo = () => {};
    plane.datapath.mayLetGo = () =>
      new Promise<void>((resolve) => {
        letGo = resolve;
      });
    await one.writeFrontend({ state: '1' });
    await one.expectState('2');
    await other.writeFrontend({ ...blkfrontNodes, state: '3' });
    await quiet();
    expect(await other.read('state')).toBe('2');
    letGo();
    await other.expectState('4');
  });

  test('a stubdomain, which has a VM of its own, stands for its guest', async () => {
    await domain(7, { vm: '/vm/guest' });
    await domain(8, { vm: '/vm/stubdomain', target: '7' });
    await plane.start();
    const stubdomain = await offered(8);
    const guest = await offered(7);
    await Promise.all([stubdomain.connect(), guest.connect()]);
    expect(openTargets()).toBe(1);
  });

  test('that starts again waits for what its former life has under way', async () => {
    await domain(7, { vm: '/vm/a' });
    await domain(8, { vm: '/vm/a' });
    let letGo = () => {};
    plane.datapath.mayLetGo = () =>
      new Promise<void>((resolve) => {
        letGo = resolve;
      });
    await plane.start({}, { openMs: 60_000 });
    const before = await offered(7);
    await before.connect();
    await before.remove();
    await before.deleteFrontend();
    await before.expectState('6');
    await before.deleteBackend();
    const after = await plane.attach({ params: PARAMS }, { domid: 8 });
    await quiet();
    expect(await after.read('state')).toBe('1');
    letGo();
    await after.connect();
    expect(plane.datapath.connections[0]?.isConnected).toBe(false);
  });

  test("a reader uses the writer's target, a writer does not use a reader's", async () => {
    await plane.start();
    await (await offered(7)).connect();
    const reader = await plane.attach({ params: PARAMS, mode: 'r' }, { domid: 7, devid: 51728 });
    await reader.connect();
    expect(plane.datapath.connections[1]?.options.readOnly).toBe(true);
    expect(openTargets()).toBe(1);
    plane.datapath.media.set('/srv/other.img', { identity: 'inode 8' });
    const other = { params: 'aio:/srv/other.img' };
    await (await plane.attach({ ...other, mode: 'r' }, { domid: 7, devid: 51744 })).connect();
    await (await plane.attach(other, { domid: 7, devid: 51760 })).connect();
    const writer = plane.datapath.connections[3]?.target;
    expect(writer?.spec.readOnly).toBe(false);
    // The reader has it already, within this daemon.
    expect(writer?.claimed).toEqual({ share: true, takeOver: false });
  });
});

describe('several VMs', () => {
  test('are refused at the offer, with the holder named, until it is gone', async () => {
    await domain(7, { vm: '/vm/a' });
    await domain(8, { vm: '/vm/b' });
    await plane.start({}, { again: { firstMs: 60_000, mostMs: 60_000, leastMs: 1 } });
    const holder = await offered(7);
    const other = await plane.attach({ params: 'aio:/srv/link' }, { domid: 8 });
    expect(await refusal(other)).toMatch(/in use by vbd3\/7\/51712 \(domain 7\).*share:/);
    expect(await other.read('state')).toBe('1');
    expect(openTargets()).toBe(1);
    await holder.remove();
    await holder.expectState('6');
    await other.expectState('2');
    expect(await other.read('hotplug-status')).toBe('connected');
    expect(await other.readError()).toBeUndefined();
  });

  test.each([
    ['a file and its loop device', 'file device 8:1 inode 12 born 1.2', 'from 0 to 0', false],
    ['two loop devices of one file', 'loop 8:1 inode 12 from 512 to 1024', 'from 0 to 513', false],
    ['loop devices of its parts', 'loop 8:1 inode 12 from 512 to 1024', 'from 0 to 512', true],
    ["another file's loop device", 'loop 8:1 inode 13 from 0 to 0', 'from 0 to 0', true],
  ])('%s', async (_what, one, where, isFree) => {
    plane.datapath.media.set('/srv/one', { identity: one });
    plane.datapath.media.set('/dev/loop0', { identity: `loop 8:1 inode 12 ${where}` });
    await plane.start();
    await offered(7, { params: 'aio:/srv/one' });
    const other = await plane.attach({ params: 'aio:/dev/loop0' }, { domid: 8 });
    if (isFree) await other.expectState('2');
    else expect(await refusal(other)).toMatch(/in use by vbd3\/7/);
  });

  test('may all read', async () => {
    await plane.start();
    for (const domid of [7, 8, 9]) await (await offered(domid, { mode: 'r' })).connect();
    expect(openTargets()).toBe(1);
    const writer = await plane.attach({ params: PARAMS }, { domid: 10 });
    expect(await refusal(writer)).toMatch(/in use by vbd3\/7/);
  });

  test.each([
    ['share: before the target', { params: 'aio:share:/srv/disk.img' }],
    ["mode w!, as xend's scripts had it", { mode: 'w!' }],
  ])('share what they ask to share: %s', async (_what, nodes) => {
    await plane.start();
    for (const domid of [7, 8]) await (await offered(domid, nodes)).connect();
    expect(openTargets()).toBe(1);
    expect(plane.datapath.targets[0]?.claimed).toEqual({ share: true, takeOver: false });
    // It has not said that it knows of the others.
    const third = await plane.attach({ params: PARAMS }, { domid: 9 });
    expect(await refusal(third)).toMatch(/in use by/);
  });

  test('take turns: who comes next waits for the I/O of the one that goes', async () => {
    let letGo = () => {};
    plane.datapath.mayLetGo = () =>
      new Promise<void>((resolve) => {
        letGo = resolve;
      });
    await plane.start();
    const before = await offered(7);
    await before.connect();
    await before.remove();
    await before.deleteFrontend();
    await before.expectState('6');
    const after = await plane.attach({ params: PARAMS }, { domid: 8 });
    await quiet();
    expect(await after.read('state')).toBe('1');
    expect(await after.read('hotplug-status')).toBeUndefined();
    letGo();
    await after.expectState('2');
  });

  test('that come at the same time: one gets it, however long the open takes', async () => {
    plane.datapath.mayOpen = quiet;
    await plane.start();
    const domids = [7, 8, 9];
    const attaches = domids.map((domid) => plane.attach({ params: PARAMS }, { domid }));
    expect(await whoIsOffered(await Promise.all(attaches))).toHaveLength(1);
  });

  test('that wait for the one that goes: one gets it', async () => {
    let letGo = () => {};
    await plane.start();
    const before = await offered(7);
    await before.connect();
    plane.datapath.mayLetGo = () =>
      new Promise<void>((resolve) => {
        letGo = resolve;
      });
    await before.remove();
    await before.deleteFrontend();
    await before.expectState('6');
    const waiting = [8, 9].map((domid) => plane.attach({ params: PARAMS }, { domid }));
    const disks = await Promise.all(waiting);
    await quiet();
    letGo();
    expect(await whoIsOffered(disks)).toHaveLength(1);
  });

  test('cannot be told apart by a null target', async () => {
    await plane.start();
    for (const domid of [7, 8]) {
      await (await plane.attach({ params: 'null:1G' }, { domid })).connect();
    }
    expect(openTargets()).toBe(2);
  });
});

test('all VBDs of a shared medium are taken over, whoever may share it', async () => {
  await plane.start();
  const nodes = { mode: 'w!' };
  const disks = [await offered(7, nodes), await offered(8, nodes)];
  for (const disk of disks) await disk.connect();
  await plane.kill();
  await plane.start();
  for (const disk of disks) await disk.expectOurState('Connected');
  expect(openTargets()).toBe(1);
  const [target] = plane.datapath.targets.filter(({ isOpen }) => isOpen);
  expect(target?.claimed).toEqual({ share: true, takeOver: true });
});

describe('a medium whose guest waits for its take-over', () => {
  /** Its daemon is gone, and the next one cannot open its medium for now. */
  async function waiting(): Promise<Disk> {
    await domain(7, { vm: '/vm/a' });
    await domain(8, { vm: '/vm/b' });
    await domain(9, { vm: '/vm/a' });
    await plane.start();
    const disk = await offered(7);
    await disk.connect();
    await plane.kill();
    plane.datapath.openError = 'no such file';
    await plane.start({}, { again: { firstMs: 60_000, mostMs: 60_000, leastMs: 1 } });
    await disk.expectOurState('Left');
    await eventually(() => disk.vbd.info().error !== undefined, 'a reason');
    plane.datapath.openError = undefined;
    return disk;
  }

  test('is for nobody else, but for its own VM', async () => {
    const disk = await waiting();
    const other = await plane.attach({ params: PARAMS }, { domid: 8 });
    expect(await refusal(other)).toMatch(/in use by vbd3\/7\/51712 \(domain 7\)/);
    await offered(9);
    // It may be there by itself already.
    await disk.vbd.retry().catch(() => undefined);
    await disk.expectOurState('Connected');
  });

  test('is for nobody else under another name, such as a loop device of the file', async () => {
    plane.datapath.media.set('/srv/disk.img', { identity: 'file device 8:1 inode 12 born 1.2' });
    plane.datapath.media.set('/dev/loop0', { identity: 'loop 8:1 inode 12 from 0 to 0 born 1.2' });
    await plane.start();
    const disk = await offered(7);
    await disk.connect();
    await plane.kill();
    plane.datapath.mayOpen = async ({ path }) => {
      if (path === '/srv/disk.img') throw new DatapathError('ENOENT', 'no such file');
    };
    await plane.start();
    await disk.expectOurState('Left');
    const other = await plane.attach({ params: 'aio:/dev/loop0' }, { domid: 8 });
    expect(await refusal(other)).toMatch(/in use by vbd3\/7\/51712 \(domain 7\)/);
  });

  test('is free when the guest has gone', async () => {
    const disk = await waiting();
    const other = await plane.attach({ params: PARAMS }, { domid: 8 });
    await refusal(other);
    await disk.deleteFrontend();
    await disk.expectState('6');
    await other.expectState('2');
  });

  test('is free where the guest went while no daemon ran', async () => {
    await plane.start();
    const disk = await offered(7);
    await disk.connect();
    await plane.kill();
    await disk.deleteBackend();
    await plane.start();
    await offered(8);
  });
});

test('a target that another process uses is claimed at the connect, and again', async () => {
  let isBusy = true;
  plane.datapath.mayClaim = async () => {
    if (isBusy) throw new DatapathError('EBUSY', 'another process uses it');
  };
  await plane.start();
  const disk = await offered(7);
  await disk.writeFrontend({ ...blkfrontNodes, state: '3' });
  await eventually(async () => (await disk.readError()) !== undefined, 'an error node');
  expect(await disk.readError()).toMatch(/another process uses it \(it is tried again by itself\)/);
  expect(await disk.read('state')).toBe('2');
  isBusy = false;
  await disk.expectState('4');
  expect(await disk.readError()).toBeUndefined();
});
