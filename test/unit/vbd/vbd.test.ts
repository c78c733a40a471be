// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { blkfrontNodes, ControlPlane, eventually, quiet } from '../../support/control_plane.ts';
import { someCapabilities } from '../../support/fake_datapath.ts';

let plane: ControlPlane;
beforeEach(() => {
  plane = new ControlPlane();
});
afterEach(async () => {
  // Leaving is the quick way: nobody plays the frontend any more.
  await plane.daemon.stop({ leave: true });
  expect(plane.datapath.held).toBe(0);
});

describe('connecting', () => {
  test('offers, connects and publishes the disk', async () => {
    await plane.start();
    const disk = await plane.attach();
    await disk.expectState('2');
    expect(await disk.read('hotplug-status')).toBe('connected');
    expect(await disk.read('kthread-pid')).toBe(String(process.pid));
    expect(await disk.read('max-ring-page-order')).toBe('4');
    expect(await disk.read('max-ring-pages')).toBe('16');
    expect(await disk.read('multi-queue-max-queues')).toBe('8');
    expect(await disk.read('feature-max-indirect-segments')).toBe('256');
    expect(await disk.read('sectors')).toBeUndefined();
    await disk.connect();
    expect(await disk.read('sectors')).toBe(String((1 << 30) / 512));
    expect(await disk.read('sector-size')).toBe('512');
    expect(await disk.read('physical-sector-size')).toBe('4096');
    expect(await disk.read('info')).toBe('0');
    expect(await disk.read('feature-flush-cache')).toBe('1');
    expect(await disk.read('feature-barrier')).toBe('1');
    expect(await disk.read('feature-discard')).toBe('1');
    expect(await disk.read('discard-granularity')).toBe('4096');
    expect(await disk.read('feature-persistent')).toBe('1');
    expect(plane.datapath.connections[0]?.options).toMatchObject({
      domid: 7,
      devid: 51712,
      abi: 'x86_64',
      queues: [{ ringRefs: [8], eventChannel: 5 }],
      grants: 'persistent',
      readOnly: false,
      discard: true,
      indirectSegmentsMax: 256,
      persistentPagesMax: 4224,
    });
    await eventually(() => disk.vbd.info().frontendState === 'Connected', 'a connected frontend');
    expect(disk.vbd.info()).toMatchObject({
      name: 'vbd3/7/51712',
      vdev: 'xvda',
      state: 'Connected',
      target: { spec: 'aio:null:1G', kind: 'null', path: String(1 << 30) },
      agreement: { grants: 'persistent', ringPageOrder: 0 },
    });
    expect(JSON.parse(JSON.stringify(disk.vbd.info()))).toEqual(disk.vbd.info());
  });

  test('takes in a device that was there before the daemon', async () => {
    const disk = await plane.attach();
    await plane.start();
    await disk.connect();
  });

  test('an offer of a dead daemon that the frontend has answered is made good', async () => {
    const disk = await plane.attach({ state: '2' });
    await disk.writeFrontend({ ...blkfrontNodes, state: '3' });
    await plane.start();
    await disk.expectState('4');
  });

  test('waits for params', async () => {
    await plane.start();
    const disk = await plane.attach({ params: undefined });
    await quiet();
    expect(await disk.read('state')).toBe('1');
    await disk.writeBackend({ params: 'null:1M' });
    await disk.connect();
  });

  test('serves many domains, disks and kinds at once', async () => {
    await plane.start({ backends: ['vbd3', 'qdisk'] });
    const ids = [5, 6, 7].flatMap((domid) =>
      [51712, 51728].flatMap((devid) => ['vbd3', 'qdisk'].map((kind) => ({ kind, domid, devid }))),
    );
    // One frontend directory has one backend: the kinds get devices of their own.
    const disks = await Promise.all(
      ids.map((id) => plane.attach({}, { ...id, devid: id.devid + (id.kind === 'qdisk' ? 1 : 0) })),
    );
    await Promise.all(disks.map((disk) => disk.connect()));
    expect(plane.daemon.vbds().map((vbd) => vbd.info().state)).toEqual(ids.map(() => 'Connected'));
  });

  test('a kind that is not configured is left alone', async () => {
    await plane.start();
    const disk = await plane.attach({}, { kind: 'vbd' });
    await quiet();
    expect(await disk.read('state')).toBe('1');
    expect(plane.daemon.vbds()).toEqual([]);
  });

  test('a read-only disk is opened, announced and served read-only', async () => {
    await plane.start();
    const disk = await plane.attach({ mode: 'r', removable: '1' });
    await disk.connect();
    expect(plane.datapath.targets[0]?.spec.readOnly).toBe(true);
    expect(await disk.read('info')).toBe('6');
    expect(await disk.read('feature-discard')).toBe('0');
    expect(await disk.read('discard-granularity')).toBeUndefined();
    expect(plane.datapath.connections[0]?.options).toMatchObject({
      readOnly: true,
      discard: false,
    });
  });

  test('XAPI names a CD drive in the frontend directory only', async () => {
    await plane.start();
    const disk = await plane.attach({ 'device-type': undefined, params: undefined });
    await disk.writeFrontend({ 'device-type': 'cdrom' });
    await disk.writeBackend({ params: 'null:1M' });
    await disk.connect();
    expect(await disk.read('info')).toBe('5');
  });

  test('an empty CD drive is offered, and connects when a disc is put in', async () => {
    await plane.start();
    const disk = await plane.attach({ 'device-type': 'cdrom', mode: 'r', params: '' });
    await disk.expectState('2');
    await disk.writeFrontend({ ...blkfrontNodes, state: '3' });
    await quiet();
    expect(await disk.read('state')).toBe('2');
    await disk.writeBackend({ params: 'null:650M' });
    await disk.expectState('4');
    expect(await disk.read('sectors')).toBe(String((1 << 30) / 512));
  });

  test('a 4Kn medium is offered one queue', async () => {
    plane.datapath.capabilities = { ...someCapabilities, ioAlignment: 4096 };
    await plane.start();
    const disk = await plane.attach();
    await disk.expectState('2');
    expect(await disk.read('multi-queue-max-queues')).toBe('1');
  });
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
    expect(await disk.read('hotplug-status')).toBeUndefined();
    await eventually(() => plane.datapath.held === 0, 'nothing held');
    await disk.deleteBackend();
    await eventually(() => plane.daemon.vbds().length === 0, 'no VBD');
    expect(await disk.read('state')).toBeUndefined();
  });

  test('a frontend that does not react is not waited for forever', async () => {
    await plane.start();
    const disk = await plane.attach();
    await disk.connect();
    await disk.remove();
    await disk.expectState('6');
    expect(plane.datapath.held).toBe(0);
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

  test('a frontend that is gone closes the device; nothing of the toolstack is removed', async () => {
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
    await expect(disk.vbd.disconnect()).rejects.toMatchObject({ code: 'VBD_NOT_READY' });
    await disk.connect();
    const disconnected = disk.vbd.disconnect();
    await disk.expectState('5');
    await disk.writeFrontend({ state: '6' });
    expect((await disconnected).state).toBe('Closed');
    expect(plane.datapath.held).toBe(0);
    await disk.writeFrontend({ state: '1' });
    await disk.expectState('2');
  });
});

describe('odd frontends', () => {
  test('a crash kernel that starts over without closing gets a new offer', async () => {
    await plane.start();
    const disk = await plane.attach();
    await disk.connect();
    await disk.writeFrontend({ state: '1' });
    await disk.connect({ ...blkfrontNodes, 'ring-ref': '99' });
    expect(plane.datapath.connections.map((one) => one.isConnected)).toEqual([false, true]);
  });

  test.each(['3', '4'])(
    'a resumed frontend in state %s has its new rings connected',
    async (state) => {
      await plane.start();
      const disk = await plane.attach();
      await disk.connect();
      await disk.writeFrontend({
        ...blkfrontNodes,
        'ring-ref': '77',
        'event-channel': '78',
        state,
      });
      await eventually(() => plane.datapath.connections.length === 2, 'a second connection');
      expect(plane.datapath.connections[1]?.options.queues).toEqual([
        { ringRefs: [77], eventChannel: 78 },
      ]);
      await disk.expectOurState('Connected');
      expect(await disk.read('state')).toBe('4');
    },
  );

  test('the same rings announced again change nothing', async () => {
    await plane.start();
    const disk = await plane.attach();
    await disk.connect();
    await disk.writeFrontend({ ...blkfrontNodes, state: '3' });
    await disk.writeFrontend({ 'ring-ref': undefined, state: '4' });
    await quiet();
    expect(plane.datapath.connections).toHaveLength(1);
    expect(disk.vbd.info().state).toBe('Connected');
  });

  test.each(['7', '8', '2'])('state %s is ignored while connected', async (state) => {
    await plane.start();
    const disk = await plane.attach();
    await disk.connect();
    await disk.writeFrontend({ state });
    await quiet();
    expect(await disk.read('state')).toBe('4');
    expect(plane.datapath.connections[0]?.isConnected).toBe(true);
    await disk.writeFrontend({ state: '4' });
  });

  test.each([
    ['ring-ref', 'x'.repeat(500)],
    ['event-channel', '0'],
    ['protocol', 'arm-abi'],
    ['multi-queue-num-queues', '9'],
    ['state', '3\u001b[31m'],
  ])('a bad %s closes this VBD and says why', async (node, value) => {
    await plane.start();
    const [bad, good] = [await plane.attach(), await plane.attach({}, { domid: 8 })];
    await good.connect();
    await bad.expectState('2');
    await bad.writeFrontend({ ...blkfrontNodes, state: '3', [node]: value });
    await bad.expectState('6');
    const shown = JSON.stringify(value.slice(0, 64)).slice(1, -1);
    expect(await bad.readError()).toContain(`frontend node ${node} is "${shown}`);
    expect(bad.vbd.info().error).toBe(await bad.readError());
    const lines = plane.lines.filter((line) => String(line['error']).includes(shown));
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatchObject({ vbd: 'vbd3/7/51712' });
    expect(good.vbd.info().state).toBe('Connected');
    // The way back leads through Initialising.
    await bad.writeFrontend({ 'multi-queue-num-queues': undefined, state: '1' });
    await bad.connect();
    expect(await bad.readError()).toBeUndefined();
    expect(bad.vbd.info().error).toBeUndefined();
  });

  test('a ring that cannot be mapped closes this VBD', async () => {
    plane.datapath.connectError = 'cannot map grant 8 of domain 7';
    await plane.start();
    const disk = await plane.attach();
    await disk.expectState('2');
    await disk.writeFrontend({ ...blkfrontNodes, state: '3' });
    await disk.expectState('5');
    await disk.writeFrontend({ state: '6' });
    await disk.expectState('6');
    expect(await disk.readError()).toBe('cannot map grant 8 of domain 7');
  });

  test('a guest that writes in a loop costs a bounded number of lines', async () => {
    await plane.start();
    const disk = await plane.attach();
    await disk.connect();
    for (let round = 0; round < 300; round++) {
      await disk.writeFrontend({ state: round % 2 ? '7' : '8' });
      if (round % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await quiet();
    expect(plane.lines.length).toBeLessThan(40);
    await disk.writeFrontend({ state: '4' });
  });

  test('a broken ring is told, and the VBD stays', async () => {
    await plane.start();
    const disk = await plane.attach();
    await disk.connect();
    plane.datapath.connections[0]?.emit('ring-broken', 0, 'producer index ran ahead');
    plane.datapath.connections[0]?.emit('flush-retry', 0, 'EIO');
    await eventually(async () => (await disk.readError()) !== undefined, 'an error node');
    expect(disk.vbd.info()).toMatchObject({
      state: 'Connected',
      error: 'queue 0 is broken: producer index ran ahead',
    });
  });
});

describe('bad toolstack nodes', () => {
  test.each([
    [{ params: 'aio:/nonexistent/disk' }, /"\/nonexistent\/disk" cannot be looked at: ENOENT/],
    [{ params: 'vhd:/a' }, /vhd image/],
    [{ params: '' }, /empty/],
    [{ mode: 'q' }, /backend node mode is "q"/],
  ])('%j is refused where libxl looks for it', async (nodes, message) => {
    await plane.start();
    const disk = await plane.attach(nodes);
    await eventually(async () => (await disk.read('hotplug-status')) === 'error', 'hotplug error');
    expect(await disk.read('hotplug-error')).toMatch(message);
    expect(await disk.readError()).toMatch(message);
    expect(await disk.read('state')).toBe('1');
    await quiet();
    expect(plane.lines.filter((line) => line.msg === 'cannot be offered')).toHaveLength(1);
    // The next change of the nodes is another try.
    await disk.writeBackend({ params: 'null:1M', mode: 'w' });
    await disk.connect();
    expect(await disk.read('hotplug-error')).toBeUndefined();
    expect(await disk.read('hotplug-status')).toBe('connected');
  });

  test('a target that cannot be opened is refused, and removal still works', async () => {
    plane.datapath.openError = 'cannot open /dev/x: No such device';
    await plane.start();
    const disk = await plane.attach();
    await eventually(async () => (await disk.readError()) !== undefined, 'an error node');
    await disk.remove();
    await disk.expectState('6');
  });

  test('a changed target before the connect takes the place of the old one', async () => {
    await plane.start();
    const disk = await plane.attach();
    await disk.expectState('2');
    await disk.writeBackend({ params: 'null:2G' });
    await eventually(() => plane.datapath.targets.length === 2, 'a second target');
    await disk.connect();
    expect(plane.datapath.targets.map((target) => target.isOpen)).toEqual([false, true]);
  });
});

describe('resize', () => {
  test('a grown target is announced by writing the state again', async () => {
    await plane.start();
    const disk = await plane.attach();
    await disk.connect();
    const [target] = plane.datapath.targets;
    if (target) target.medium = { ...someCapabilities, capacity: 2 ** 31 };
    let stateWrites = 0;
    const watch = await plane.xenstore.watch(`${disk.backend}/state`, () => stateWrites++);
    await quiet();
    stateWrites = 0;
    const info = await disk.vbd.resize();
    expect(info.target?.capabilities.capacity).toBe(2 ** 31);
    expect(await disk.read('sectors')).toBe(String(2 ** 31 / 512));
    await eventually(() => stateWrites > 0, 'a write of the state');
    await watch.remove();
  });

  test('a shrunk target is refused', async () => {
    await plane.start();
    const disk = await plane.attach();
    await disk.connect();
    const [target] = plane.datapath.targets;
    if (target) target.medium = { ...someCapabilities, capacity: 1 << 20 };
    for (let attempt = 0; attempt < 2; attempt++) {
      await expect(disk.vbd.resize()).rejects.toMatchObject({ code: 'RESIZE_REFUSED' });
    }
    await disk.writeFrontend({ state: '4' });
    expect(await disk.read('sectors')).toBe(String((1 << 30) / 512));
  });

  test('without a target there is nothing to resize', async () => {
    await plane.start();
    const disk = await plane.attach({ params: undefined });
    await eventually(() => plane.daemon.vbds().length === 1, 'a VBD');
    await expect(disk.vbd.resize()).rejects.toMatchObject({ code: 'VBD_NOT_READY' });
  });
});
