// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { blkfrontNodes, ControlPlane, eventually, quiet } from '../../support/control_plane.ts';

let plane: ControlPlane;
beforeEach(() => {
  plane = new ControlPlane();
});
afterEach(async () => {
  await plane.end();
  expect(plane.datapath.held).toBe(0);
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
      expect(plane.datapath.connections[1]?.options.queues).toMatchObject([
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

  test('a target that fails is told once, with its errno, until all queues go on', async () => {
    await plane.start();
    const disk = await plane.attach({ params: 'aio:on-error=stop:null:1G' });
    await disk.connect();
    const [connection] = plane.datapath.connections;
    expect(connection?.options.onError).toBe('stop');
    expect(disk.vbd.info()).toMatchObject({ onError: 'stop' });
    connection?.emit('io-failing', 1, 'ENOSPC');
    connection?.emit('io-failing', 0, 'EIO');
    expect(disk.vbd.info().failing).toMatchObject({ error: 'ENOSPC', since: expect.any(String) });
    connection?.emit('io-recovered', 1);
    expect(disk.vbd.info().failing).toBeDefined();
    connection?.emit('io-recovered', 0);
    expect(disk.vbd.info().failing).toBeUndefined();
    const told = plane.lines.filter(({ msg }) => /the target (fails|works)/.test(String(msg)));
    expect(told).toMatchObject([{ error: 'ENOSPC' }, { ms: expect.any(Number) }]);
  });

  test('nothing fails any more once a disk is closed', async () => {
    await plane.start();
    const disk = await plane.attach();
    await disk.connect();
    expect(plane.datapath.connections[0]?.options.onError).toBe('report');
    plane.datapath.connections[0]?.emit('io-failing', 0, 'EIO');
    await disk.writeFrontend({ state: '5' });
    await disk.expectState('5');
    await disk.writeFrontend({ state: '6' });
    await disk.expectState('6');
    plane.datapath.connections[0]?.emit('io-failing', 0, 'EIO');
    expect(disk.vbd.info().failing).toBeUndefined();
  });

  test('a broken ring is told, and the VBD stays', async () => {
    await plane.start();
    const disk = await plane.attach();
    await disk.connect();
    plane.datapath.connections[0]?.emit('ring-broken', 0, 'producer index ran ahead');
    await eventually(async () => (await disk.readError()) !== undefined, 'an error node');
    expect(disk.vbd.info()).toMatchObject({
      state: 'Connected',
      error: 'queue 0 is broken: producer index ran ahead',
    });
  });
});
