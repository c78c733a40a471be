// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ControlPlane } from '../support/control_plane.ts';

let plane: ControlPlane;
beforeEach(() => {
  plane = new ControlPlane();
});
afterEach(() => plane.daemon.stop());

describe('find', () => {
  test('by the names that mean one VBD only', async () => {
    await plane.start({ backends: ['vbd3', 'qdisk'] });
    const a = await plane.attach({ dev: 'xvda' }, { domid: 10 });
    const b = await plane.attach({ dev: 'xvda' }, { domid: 9 });
    const c = await plane.attach({ dev: 'xvdb' }, { domid: 9, devid: 51728 });
    for (const disk of [a, b, c]) await disk.expectState('2');
    expect(plane.daemon.vbds().map((vbd) => vbd.name)).toEqual([
      'vbd3/9/51712',
      'vbd3/9/51728',
      'vbd3/10/51712',
    ]);
    expect(plane.daemon.find('vbd3/10/51712')).toBe(a.vbd);
    expect(plane.daemon.find('9/51712')).toBe(b.vbd);
    expect(plane.daemon.find('9/xvdb')).toBe(c.vbd);
    expect(() => plane.daemon.find('9/xvdc')).toThrow(/There is no VBD "9\/xvdc"/);
    const d = await plane.attach(
      { dev: 'xvda', 'sm-data/ringdisk-id': 'x' },
      { kind: 'qdisk', domid: 9, devid: 5632 },
    );
    await d.expectState('2');
    expect(() => plane.daemon.find('9/xvda')).toThrow(/any of qdisk\/9\/5632, vbd3\/9\/51712/);
  });
});

describe('stop', () => {
  test('twice is once', async () => {
    await plane.start();
    const stopped = plane.daemon.stop();
    expect(plane.daemon.stop()).toBe(stopped);
    await stopped;
  });

  test('nothing that appears afterwards is served', async () => {
    await plane.start();
    await plane.daemon.stop();
    const disk = await plane.attach();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(await disk.read('state')).toBe('1');
  });

  test('comes to an end without xenstore', async () => {
    await plane.start();
    const disk = await plane.attach();
    await disk.connect();
    await plane.daemonXenstore.close();
    await plane.daemon.stop();
    expect(plane.datapath.held).toBe(0);
  });
});
