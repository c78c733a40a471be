// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { blkfrontNodes, ControlPlane, eventually, quiet } from '../../support/control_plane.ts';
import { someCapabilities } from '../../support/fake_datapath.ts';

let plane: ControlPlane;
beforeEach(() => {
  plane = new ControlPlane();
});
afterEach(async () => {
  await plane.end();
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
      ids.map((id) =>
        plane.attach(
          { 'sm-data/ringdisk-id': 'x' },
          { ...id, devid: id.devid + (id.kind === 'qdisk' ? 1 : 0) },
        ),
      ),
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

  // libxl writes the format in front of nothing.
  test.each(['', 'aio:', 'phy:', 'aio:on-error=stop:'])(
    'an empty CD drive (%j) is offered, and connects when a disc is put in',
    async (params) => {
      await plane.start();
      const disk = await plane.attach({ 'device-type': 'cdrom', mode: 'r', params });
      await disk.expectState('2');
      await disk.writeFrontend({ ...blkfrontNodes, state: '3' });
      await quiet();
      expect(await disk.read('state')).toBe('2');
      await disk.writeBackend({ params: 'null:650M' });
      await disk.expectState('4');
      expect(await disk.read('sectors')).toBe(String((1 << 30) / 512));
    },
  );

  test('a disk that was partitioned in sectors of 4096 bytes is shown with them', async () => {
    plane.datapath.capabilities = { ...someCapabilities, capacity: 1_000_000 };
    await plane.start();
    const disk = await plane.attach({ params: 'aio:sector-size=4096:null:1M' });
    await disk.connect();
    expect(await disk.read('sector-size')).toBe('4096');
    expect(await disk.read('sectors')).toBe(String(244 * 8));
    const [target] = plane.datapath.targets;
    if (target) target.medium = { ...someCapabilities, capacity: 1_005_000 };
    await disk.vbd.resize();
    expect(await disk.read('sectors')).toBe(String(245 * 8));
  });

  test('a 4Kn medium is offered as many queues as others', async () => {
    plane.datapath.capabilities = { ...someCapabilities, ioAlignment: 4096 };
    await plane.start();
    const disk = await plane.attach();
    await disk.expectState('2');
    expect(await disk.read('multi-queue-max-queues')).toBe('8');
  });
});

describe('bad toolstack nodes', () => {
  test.each([
    [{ params: 'qed:/a' }, /qed image/],
    [{ params: '' }, /empty/],
    [{ params: 'aio:' }, /empty/],
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
