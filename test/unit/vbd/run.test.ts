// SPDX-License-Identifier: Apache-2.0
import { existsSync, mkdirSync, rmdirSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ControlPlane, eventually, quiet } from '../../support/control_plane.ts';
import { someCapabilities } from '../../support/fake_datapath.ts';

let plane: ControlPlane;
beforeEach(() => {
  plane = new ControlPlane();
});
afterEach(async () => {
  await plane.end();
  expect(plane.datapath.held).toBe(0);
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

test('a record that cannot be written is written when it can be', async () => {
  await plane.start();
  const disk = await plane.attach();
  await disk.expectState('2');
  const record = path.join(plane.runtimeDir, 'vbds', 'vbd3-7-51712.json');
  mkdirSync(`${record}.new`);
  await disk.connect();
  await quiet();
  const said = () => plane.lines.filter(({ msg }) => msg.startsWith('cannot be recorded'));
  expect([existsSync(record), said().length]).toEqual([false, 1]);
  rmdirSync(`${record}.new`);
  await eventually(() => existsSync(record), 'a record');
  await plane.kill();
  await plane.start();
  await disk.expectOurState('Connected');
});
