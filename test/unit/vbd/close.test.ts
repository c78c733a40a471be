// SPDX-License-Identifier: Apache-2.0
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  blkfrontNodes,
  ControlPlane,
  type Disk,
  eventually,
  quiet,
} from '../../support/control_plane.ts';

let plane: ControlPlane;
beforeEach(() => {
  plane = new ControlPlane();
});
afterEach(async () => {
  await plane.end();
  expect(plane.datapath.held).toBe(0);
});

describe('closing', () => {
  test('follows a frontend that closes, and back again', async () => {
    await plane.start();
    const disk = await plane.attach();
    for (let round = 0; round < 3; round++) {
      await disk.connect({ ...blkfrontNodes, 'ring-ref': String(10 + round) });
      await disk.writeFrontend({ state: '5' });
      await disk.expectState('5');
      expect(plane.datapath.connections[round]?.isConnected).toBe(true);
      await disk.writeFrontend({ state: '6' });
      await disk.expectState('6');
      expect(plane.datapath.connections[round]?.isConnected).toBe(false);
      await disk.writeFrontend({ state: '1' });
    }
    await disk.expectState('2');
    expect(plane.datapath.targets).toHaveLength(1);
  });

  test('answers in time while the disk is slow, and connects anew only after it', async () => {
    let letGo = () => {};
    const slow = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    plane.datapath.mayLetGo = () => slow;
    await plane.start();
    const disk = await plane.attach();
    await disk.connect();
    await disk.writeFrontend({ state: '5' });
    await disk.expectState('5');
    await disk.writeFrontend({ state: '6' });
    await disk.expectState('6');
    await disk.writeFrontend({ state: '1' });
    await disk.expectState('2');
    await disk.writeFrontend({ ...blkfrontNodes, state: '3' });
    await quiet();
    expect(await disk.read('state')).toBe('2');
    expect(plane.datapath.connections).toHaveLength(1);
    plane.datapath.mayLetGo = () => Promise.resolve();
    letGo();
    await disk.expectState('4');
    expect(plane.datapath.connections).toHaveLength(2);
  });

  test('a toolstack removal is told to the frontend and ends in Closed', async () => {
    await plane.start();
    const disk = await plane.attach();
    await disk.connect();
    await disk.remove();
    await disk.expectOurState('Closing');
    expect(plane.datapath.connections[0]?.isConnected).toBe(true);
    await disk.writeFrontend({ state: '6' });
    await disk.expectState('6');
    await eventually(
      async () => (await disk.read('hotplug-status')) === undefined,
      'no hotplug-status',
    );
    await eventually(() => plane.datapath.held === 0, 'nothing held');
    await disk.deleteBackend();
    await eventually(() => plane.daemon.vbds().length === 0, 'no VBD');
    expect(await disk.read('state')).toBeUndefined();
  });

  test.each(['4', '5'])(
    'a frontend that refuses in state %s keeps its disk until it lets go',
    async (state) => {
      await plane.start({}, { closeMs: 30 });
      const disk = await plane.attach();
      await disk.connect();
      await disk.remove();
      await disk.expectState('5');
      await disk.writeFrontend({ state });
      await sleep(100);
      expect(await disk.read('state')).toBe('5');
      expect(plane.datapath.connections[0]?.isConnected).toBe(true);
      await disk.writeFrontend({ state: '6' });
      await disk.expectState('6');
    },
  );

  test('a removal that is forced takes the frontend away, and that is the end', async () => {
    await plane.start();
    const disk = await plane.attach();
    await disk.connect();
    await disk.remove();
    await disk.expectState('5');
    await disk.deleteFrontend();
    await disk.expectState('6');
    await eventually(() => plane.datapath.held === 0, 'nothing held');
  });

  test('a removal before anything was connected is answered at once', async () => {
    await plane.start({}, { closeMs: 60_000 });
    const disk = await plane.attach();
    await disk.expectState('2');
    await disk.remove();
    await disk.expectState('6');
  });

  test('a removal that comes after Closed is answered, too', async () => {
    await plane.start();
    const disk = await plane.attach();
    await disk.connect();
    await disk.writeFrontend({ state: '6' });
    await disk.expectState('6');
    await disk.remove();
    await disk.expectState('6');
    await quiet();
    expect(await disk.read('state')).toBe('6');
  });

  test('an offline device does not come back', async () => {
    await plane.start();
    const disk = await plane.attach();
    await disk.connect();
    await disk.writeBackend({ online: '0' });
    await quiet();
    expect(await disk.read('state')).toBe('4');
    await disk.writeFrontend({ state: '6' });
    await disk.expectState('6');
    await disk.writeFrontend({ state: '1' });
    await quiet();
    expect(await disk.read('state')).toBe('6');
  });

  test("a frontend that is gone closes the device, the toolstack's nodes stay", async () => {
    await plane.start();
    const disk = await plane.attach();
    await disk.connect();
    await disk.deleteFrontend();
    await disk.expectState('6');
    expect(await disk.read('params')).toBe('aio:null:1G');
    expect(plane.datapath.held).toBe(0);
  });

  test('a directory that is gone is not brought back', async () => {
    await plane.start();
    const disk = await plane.attach();
    await disk.connect();
    await plane.xenstore.remove('/local/domain/0/backend/vbd3/7');
    await eventually(() => plane.datapath.held === 0, 'nothing held');
    await quiet();
    expect(await plane.xenstore.read(disk.backend)).toBeUndefined();
    expect(plane.daemon.vbds()).toEqual([]);
  });

  test('the same disk attached again waits for the one before to let go', async () => {
    let letGo = () => {};
    const slow = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    plane.datapath.mayLetGo = () => slow;
    await plane.start();
    const disk = await plane.attach();
    await disk.connect();
    await disk.deleteBackend();
    await disk.deleteFrontend();
    await quiet();
    expect(plane.daemon.vbds()).toEqual([]);
    plane.datapath.mayLetGo = () => Promise.resolve();
    await plane.attach();
    await disk.expectState('2');
    await disk.writeFrontend({ ...blkfrontNodes, state: '3' });
    await quiet();
    expect(plane.datapath.connections).toHaveLength(1);
    letGo();
    await disk.expectState('4');
  });

  test('an operator disconnects', async () => {
    await plane.start();
    const disk = await plane.attach();
    await disk.expectOurState('InitWait');
    const force = { force: false };
    await expect(disk.vbd.disconnect(force)).rejects.toMatchObject({ code: 'VBD_NOT_READY' });
    await disk.connect();
    const disconnected = disk.vbd.disconnect(force);
    await disk.expectState('5');
    await disk.writeFrontend({ state: '6' });
    expect((await disconnected).state).toBe('Closed');
    expect(plane.datapath.held).toBe(0);
    await disk.writeFrontend({ state: '1' });
    await disk.expectState('2');
  });

  test('an operator is told that the guest refuses, and may force it', async () => {
    await plane.start();
    const disk = await plane.attach();
    await disk.connect();
    const asked = disk.vbd.disconnect({ force: false });
    await expect(asked).rejects.toMatchObject({ code: 'VBD_BUSY' });
    await expect(asked).rejects.toThrow(/has not let go.*frontend is Connected.*--force/);
    expect(plane.datapath.connections[0]?.isConnected).toBe(true);
    expect((await disk.vbd.disconnect({ force: true })).state).toBe('Closed');
    expect(plane.datapath.held).toBe(0);
  });

  test('a toolstack that takes a closed device offline is told that it is unplugged', async () => {
    let letGo = () => {};
    plane.datapath.mayLetGo = () =>
      new Promise<void>((resolve) => {
        letGo = resolve;
      });
    await plane.start();
    const disk = await plane.attach();
    await disk.connect();
    await disk.writeFrontend({ state: '6' });
    await disk.expectState('6');
    expect(await disk.read('hotplug-status')).toBe('connected');
    await disk.writeBackend({ online: '0' });
    await disk.deleteFrontend();
    // Writes of it may still be in the kernel.
    await quiet();
    expect(await disk.read('hotplug-status')).toBe('connected');
    letGo();
    await eventually(
      async () => (await disk.read('hotplug-status')) === undefined,
      'no hotplug-status',
    );
  });

  describe('where a toolstack asks by shutdown-request', () => {
    const done = (disk: Disk) => disk.read('shutdown-done');

    test('a guest is asked, and it is done when nothing is under way any more', async () => {
      let letGo = () => {};
      plane.datapath.mayLetGo = () =>
        new Promise<void>((resolve) => {
          letGo = resolve;
        });
      await plane.start();
      const disk = await plane.attach();
      await disk.connect();
      await disk.writeBackend({ online: '0', 'shutdown-request': 'normal' });
      await disk.expectState('5');
      await sleep(200);
      expect(plane.datapath.connections[0]?.isConnected).toBe(true);
      await disk.writeFrontend({ state: '6' });
      await disk.expectState('6');
      await quiet();
      expect(await done(disk)).toBeUndefined();
      letGo();
      await eventually(async () => (await done(disk)) === '', 'shutdown-done');
      await eventually(() => plane.datapath.held === 0, 'nothing held');
    });

    test('by force its guest loses it, though it says nothing and the state stays 4', async () => {
      await plane.start({}, { closeMs: 60_000 });
      const disk = await plane.attach();
      await disk.connect();
      await disk.writeBackend({ 'shutdown-request': 'force' });
      await eventually(async () => (await done(disk)) === '', 'shutdown-done');
      expect(plane.datapath.held).toBe(0);
      // The frontend, which is still there, is not served again.
      await disk.writeFrontend({ state: '1' });
      await quiet();
      expect(await disk.read('state')).toBe('6');
    });

    test('one that no guest has is done at once, and so is one that is closed', async () => {
      await plane.start();
      const disk = await plane.attach();
      await disk.writeBackend({ online: '0', 'shutdown-request': 'normal' });
      await eventually(async () => (await done(disk)) === '', 'shutdown-done');
      const other = await plane.attach({}, { domid: 8 });
      await other.connect();
      await other.writeFrontend({ state: '6' });
      await other.expectState('6');
      await other.writeBackend({ online: '0', 'shutdown-request': 'normal' });
      await eventually(async () => (await done(other)) === '', 'shutdown-done');
    });

    test('a daemon that comes after it was asked answers, too', async () => {
      await plane.start();
      const disk = await plane.attach();
      await disk.connect();
      await plane.kill();
      await disk.writeBackend({ online: '0', 'shutdown-request': 'normal' });
      await plane.start();
      await disk.expectState('5');
      await disk.writeFrontend({ state: '6' });
      await eventually(async () => (await done(disk)) === '', 'shutdown-done');
      await disk.deleteBackend();
      await eventually(() => plane.daemon.vbds().length === 0, 'no VBD');
      expect(await disk.read('state')).toBeUndefined();
    });
  });

  test('what is closed holds nothing, by its counters', async () => {
    await plane.start();
    const disk = await plane.attach();
    await disk.connect();
    await disk.writeFrontend({ state: '6' });
    await disk.expectState('6');
    expect(disk.vbd.info().counters).toMatchObject({ reads: 1, inFlight: 0, mappedPages: 0 });
  });
});

describe('I/O that the daemon before left under way', () => {
  let lift: () => void;

  /** Its daemon is killed while its storage hangs; then its guest goes. */
  async function restartAfter(killed: (disk: Disk) => Promise<void>): Promise<Disk> {
    await plane.start();
    const disk = await plane.attach({ params: 'aio:/srv/disk.img' });
    await disk.connect();
    plane.datapath.mayLetGo = () => new Promise(() => {});
    await killed(disk);
    await disk.writeBackend({ online: '0' });
    plane.datapath.mayLetGo = () => Promise.resolve();
    plane.datapath.fence = new Promise((resolve) => {
      lift = resolve;
    });
    await plane.start();
    await disk.expectState('6');
    await quiet();
    return disk;
  }

  test.each([
    [
      'it had closed the disk',
      async (disk: Disk) => {
        await disk.writeFrontend({ state: '6' });
        await disk.expectState('6');
        await plane.kill();
      },
    ],
    [
      'the guest went meanwhile',
      async (disk: Disk) => {
        await plane.kill();
        await disk.writeFrontend({ state: '6' });
      },
    ],
  ])('keeps the disk plugged until it is over: %s', async (_what, killed) => {
    const disk = await restartAfter(killed);
    expect(await disk.read('hotplug-status')).toBe('connected');
    expect(disk.vbd.info().fencedSince).toMatch(/^2.*Z$/);
    lift();
    const status = () => disk.read('hotplug-status');
    await eventually(async () => (await status()) === undefined, 'no status', status);
    expect(plane.datapath.held).toBe(0);
    expect(disk.vbd.info().fencedSince).toBeUndefined();
  });

  test('does not where the medium is gone as well', async () => {
    const disk = await restartAfter(async (left) => {
      await plane.kill();
      await left.writeFrontend({ state: '6' });
      plane.datapath.openError = 'no such file';
    });
    const status = () => disk.read('hotplug-status');
    await eventually(async () => (await status()) === undefined, 'no status', status);
  });
});
