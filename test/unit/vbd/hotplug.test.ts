// SPDX-License-Identifier: Apache-2.0
// A toolstack that runs a script in InitWait, and scripts that make the device.
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { blkfrontNodes, ControlPlane, eventually, quiet } from '../../support/control_plane.ts';

const OURS = '/etc/xen/scripts/block-ringdisk';

let plane: ControlPlane;
beforeEach(async () => {
  plane = new ControlPlane();
});
afterEach(async () => {
  await plane.end();
  expect(plane.datapath.held).toBe(0);
});

describe('with a script', () => {
  test('a toolstack that looks late still finds InitWait', async () => {
    await plane.start({}, { scriptMs: 10_000 });
    const disk = await plane.attach({ script: OURS });
    await disk.expectState('2');
    expect(await disk.read('hotplug-status')).toBeUndefined();
    await disk.writeFrontend({ ...blkfrontNodes, state: '3' });
    await sleep(100);
    expect(await disk.read('state')).toBe('2');
    await disk.writeBackend({ 'hotplug-status': 'connected' });
    await disk.expectState('4');
    expect(await disk.read('hotplug-status')).toBe('connected');
  });

  test('one that never says anything costs a moment, once', async () => {
    await plane.start();
    const disk = await plane.attach({ script: '/bin/true' });
    await disk.expectState('2');
    await sleep(100);
    expect(await disk.read('state')).toBe('2');
    const connect = async () => {
      const started = performance.now();
      await disk.connect();
      return performance.now() - started;
    };
    // From when the frontend asks.
    expect(await connect()).toBeGreaterThan(70);
    expect(await disk.read('hotplug-status')).toBeUndefined();
    for (const state of ['5', '6', '1']) {
      await disk.writeFrontend({ state });
      await disk.expectState(state === '1' ? '2' : state);
    }
    expect(await connect()).toBeLessThan(70);
  });

  test('one that failed is the end of it', async () => {
    await plane.start();
    const disk = await plane.attach({ script: OURS });
    await disk.expectState('2');
    await disk.writeBackend({ 'hotplug-status': 'error' });
    await disk.writeFrontend({ ...blkfrontNodes, state: '3' });
    await sleep(120);
    expect(await disk.read('state')).toBe('2');
    await disk.remove();
    await disk.deleteFrontend();
    await disk.expectState('6');
  });

  test('what we refused is forgotten when it can be offered', async () => {
    plane.datapath.openError = 'missing';
    await plane.start();
    const disk = await plane.attach({ script: OURS, params: 'aio:/srv/a' });
    await eventually(async () => (await disk.read('hotplug-status')) === 'error', 'a refusal');
    expect(await disk.read('state')).toBe('1');
    plane.datapath.openError = undefined;
    await disk.expectState('2');
    expect(await disk.read('hotplug-status')).toBeUndefined();
  });

  test('a guest that comes back does not wait for a script that has spoken', async () => {
    await plane.start({}, { scriptMs: 10_000 });
    const disk = await plane.attach({ script: OURS });
    await disk.expectState('2');
    await disk.writeBackend({ 'hotplug-status': 'connected' });
    await disk.connect();
    for (const state of ['5', '6', '1']) {
      await disk.writeFrontend({ state });
      await disk.expectState(state === '1' ? '2' : state);
    }
    await disk.connect();
  });
});

describe('a script that makes the device', () => {
  const missing = () => {
    plane.datapath.openError = 'No such file or directory';
  };

  test('is waited for in InitWait, and its word opens what params names', async () => {
    missing();
    await plane.start();
    const disk = await plane.attach({ script: 'block-drbd', params: 'aio:/dev/drbd7' });
    await disk.expectState('2');
    await disk.writeFrontend({ ...blkfrontNodes, state: '3' });
    await sleep(150);
    expect(await disk.read('hotplug-status')).toBeUndefined();
    expect(await disk.readError()).toBeUndefined();
    expect(await disk.read('state')).toBe('2');
    plane.datapath.openError = undefined;
    await disk.writeBackend({ 'hotplug-status': 'connected' });
    await disk.expectState('4');
    expect(disk.vbd.info().target).toMatchObject({ path: '/dev/drbd7', spec: 'aio:/dev/drbd7' });
  });

  test('opens what it says where params is no path', async () => {
    await plane.start();
    const params = 'iqn=iqn.2001-05.com.example:a,portal=10.0.0.1';
    const disk = await plane.attach({ script: 'block-iscsi', params });
    await disk.expectState('2');
    expect(plane.datapath.opens).toBe(0);
    await disk.writeBackend({ 'physical-device-path': '/dev/sdq' });
    await eventually(() => plane.datapath.targets.length === 1, 'an open target');
    await disk.writeBackend({ 'hotplug-status': 'connected' });
    await disk.connect();
    expect(disk.vbd.info().target).toMatchObject({ path: '/dev/sdq', spec: params });
    // And so does the daemon that comes next.
    await plane.kill();
    await plane.start();
    await disk.expectOurState('Connected');
    expect(disk.vbd.info().target).toMatchObject({ path: '/dev/sdq', spec: params });
  });

  test('that says it is there when it is not has the disk refused, and tried again', async () => {
    missing();
    await plane.start();
    const disk = await plane.attach({ script: 'block-drbd', params: 'aio:/dev/drbd7' });
    await disk.expectState('2');
    await disk.writeBackend({ 'hotplug-status': 'connected' });
    await eventually(async () => (await disk.read('hotplug-status')) === 'error', 'a refusal');
    plane.datapath.openError = undefined;
    await eventually(() => plane.datapath.targets.length > 0, 'another try');
  });

  test.each([
    ['says so before it is there', { 'hotplug-status': 'connected' }],
    ['never says anything', {}],
  ])('that %s has it opened when it is', async (_what, word) => {
    missing();
    await plane.start();
    const disk = await plane.attach({ script: 'block-lvm', params: 'aio:/dev/vg/a' });
    await disk.expectState('2');
    let writes = 0;
    const watch = await plane.xenstore.watch(`${disk.backend}/state`, () => writes++);
    await disk.writeBackend(word);
    await disk.writeFrontend({ ...blkfrontNodes, state: '3' });
    await sleep(300);
    // Tried again and again, and its guest is not told each time.
    expect(plane.datapath.opens).toBeGreaterThan(3);
    expect(plane.datapath.opens).toBeLessThan(20);
    expect(writes).toBeLessThan(3);
    plane.datapath.openError = undefined;
    await disk.expectState('4');
    expect(disk.vbd.info().error).toBeUndefined();
    await watch.remove();
  });

  test('is not expected of our own script: what is missing is refused at once', async () => {
    missing();
    await plane.start();
    for (const script of [OURS, 'block-tap']) {
      const disk = await plane.attach(
        { script, params: 'aio:/dev/vg/a' },
        { domid: script.length },
      );
      await eventually(async () => (await disk.read('hotplug-status')) === 'error', 'a refusal');
      expect(await disk.read('state')).toBe('1');
    }
  });

  test('a removal while it is waited for is answered', async () => {
    missing();
    await plane.start();
    const disk = await plane.attach({ script: 'block-drbd', params: 'aio:/dev/drbd7' });
    await disk.expectState('2');
    await disk.remove();
    await disk.expectState('6');
    await quiet();
    expect(await disk.read('state')).toBe('6');
  });
});
