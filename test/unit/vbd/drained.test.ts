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

async function leftDisk() {
  await plane.start();
  const disk = await plane.attach();
  await disk.connect();
  await plane.daemon.stop({ leave: true });
  expect(plane.datapath.held).toBe(0);
  return disk;
}

describe('a daemon that stops', () => {
  test('closes what is connected', async () => {
    await plane.start();
    const [disk, waiting] = [await plane.attach(), await plane.attach({}, { domid: 8 })];
    await disk.connect();
    await waiting.expectState('2');
    const stopped = plane.daemon.stop();
    await disk.expectState('5');
    await disk.writeFrontend({ state: '6' });
    await stopped;
    expect(await disk.read('state')).toBe('6');
    expect(await waiting.read('state')).toBe('2');
    expect(plane.datapath.held).toBe(0);
  });

  test('closeOnStop=false leaves what is connected', async () => {
    await plane.start({ closeOnStop: false });
    const disk = await plane.attach();
    await disk.connect();
    await plane.daemon.stop();
    expect(await disk.read('state')).toBe('4');
    expect(await disk.read('ringdisk-drained')).toBeDefined();
    expect(plane.datapath.held).toBe(0);
  });

  test('does not leave what is closing', async () => {
    await plane.start();
    const disk = await plane.attach();
    await disk.connect();
    await disk.writeFrontend({ state: '5' });
    await disk.expectState('5');
    const stopped = plane.daemon.stop({ leave: true });
    await disk.writeFrontend({ state: '6' });
    await stopped;
    expect(await disk.read('state')).toBe('6');
  });
});

describe('a VBD that was left', () => {
  test('goes on where it was, with what it was promised', async () => {
    const disk = await leftDisk();
    plane.datapath.capabilities = { ...someCapabilities, capacity: 2 ** 31 };
    await plane.start({ indirectSegmentsMax: 16, queuesMax: 1 });
    await eventually(() => plane.datapath.connections.length === 2, 'a second connection');
    const [before, after] = plane.datapath.connections;
    expect(after?.options).toEqual(before?.options);
    expect(disk.vbd.info().state).toBe('Connected');
    expect(await disk.read('state')).toBe('4');
    expect(await disk.read('ringdisk-drained')).toBeUndefined();
    await eventually(
      async () => (await disk.read('sectors')) === String(2 ** 31 / 512),
      'its size',
    );
    await disk.writeFrontend({ state: '6' });
    await disk.expectState('6');
  });

  test('is never told that its target shrank', async () => {
    const disk = await leftDisk();
    plane.datapath.capabilities = { ...someCapabilities, capacity: 1 << 20 };
    await plane.start();
    await disk.expectOurState('Connected');
    await quiet();
    expect(await disk.read('sectors')).toBe(String((1 << 30) / 512));
  });

  test('by a daemon that was killed: nothing is touched, until the frontend moves', async () => {
    const disk = await leftDisk();
    await plane.xenstore.remove(`${disk.backend}/ringdisk-drained`);
    await plane.start();
    await disk.expectOurState('Left');
    expect(await disk.read('state')).toBe('4');
    expect(disk.vbd.info().error).toMatch(/waiting for its frontend to reconnect/);
    expect(plane.datapath.connections).toHaveLength(1);
    await plane.daemon.stop({ leave: false });
    expect(await disk.read('state')).toBe('4');
    await plane.start();
    await disk.writeFrontend({ state: '5' });
    await disk.expectState('5');
    await disk.writeFrontend({ state: '6' });
    await disk.expectState('6');
    await disk.writeFrontend({ state: '1' });
    await disk.connect();
  });

  test.each([
    ['other rings', 'frontend', { 'ring-ref': '31' }],
    ['a mark that cannot be read', 'backend', { 'ringdisk-drained': '{"version":2}' }],
    ['a mark that is no JSON', 'backend', { 'ringdisk-drained': '{' }],
    ['bad rings', 'frontend', { 'ring-ref': '-1' }],
    ['a target that is gone', 'backend', { params: '/nonexistent' }],
  ])('with %s: nothing is touched', async (_what, side, nodes) => {
    const disk = await leftDisk();
    if (side === 'frontend') await disk.writeFrontend(nodes);
    else await disk.writeBackend(nodes);
    await plane.start();
    await disk.expectOurState('Left');
    await quiet();
    expect(await disk.read('state')).toBe('4');
    expect(plane.datapath.connections).toHaveLength(1);
  });

  test('whose rings cannot be mapped keeps its mark', async () => {
    const disk = await leftDisk();
    plane.datapath.connectError = 'busy';
    await plane.start();
    await disk.expectOurState('Left');
    await eventually(async () => (await disk.read('ringdisk-drained')) !== undefined, 'its mark');
    await plane.daemon.stop({ leave: false });
    plane.datapath.connectError = undefined;
    await plane.start();
    await disk.expectOurState('Connected');
  });

  test('with a broken ring is not marked', async () => {
    await plane.start();
    const disk = await plane.attach();
    await disk.connect();
    const [connection] = plane.datapath.connections;
    if (connection) connection.brokenQueues = 1;
    await plane.daemon.stop({ leave: true });
    expect(await disk.read('ringdisk-drained')).toBeUndefined();
    expect(await disk.read('state')).toBe('4');
    await plane.start();
  });

  test('a removal asked for meanwhile is carried out', async () => {
    const disk = await leftDisk();
    await disk.remove();
    await plane.start();
    await disk.writeFrontend({ state: '6' });
    await disk.expectState('6');
  });

  test('a guest that rebooted meanwhile connects anew, and the mark is gone', async () => {
    const disk = await leftDisk();
    await disk.writeFrontend({ state: '1' });
    await plane.start();
    await disk.connect(blkfrontNodes);
    expect(await disk.read('ringdisk-drained')).toBeUndefined();
  });
});
