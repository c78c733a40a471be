// SPDX-License-Identifier: Apache-2.0
// A take-over that daemons die of: its VBD is left alone in the end, and no other one.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { crashNotePath } from '../../../src/vbd/record.ts';
import { ControlPlane, type Disk, quiet } from '../../support/control_plane.ts';

let plane: ControlPlane;
let culprit: Disk;
let others: Disk[];
beforeEach(async () => {
  plane = new ControlPlane();
  await plane.start();
  culprit = await plane.attach({}, { domid: 1 });
  others = [await plane.attach({}, { domid: 2 }), await plane.attach({}, { domid: 3 })];
  for (const disk of [culprit, ...others]) await disk.connect();
  await plane.kill();
  plane.datapath.crashes = ({ domid }) => domid === 1;
});
afterEach(async () => {
  await plane.end();
  expect(plane.datapath.held).toBe(0);
});

function deaths(disk: Disk): string | undefined {
  const file = path.join(plane.runtimeDir, 'vbds', `vbd3-${disk.id.domid}-51712.deaths`);
  return existsSync(file) ? readFileSync(file, 'utf8') : undefined;
}

async function crash(): Promise<void> {
  writeFileSync(crashNotePath(plane.runtimeDir), '');
  await plane.kill();
}

/** Takes the culprit over last, and ends while it replays. */
async function startAndEnd(end = crash): Promise<void> {
  await plane.start();
  for (const disk of others) await disk.expectOurState('Connected');
  await culprit.expectOurState('Connected');
  await quiet();
  await end();
}

test('three daemons die of it, the fourth leaves it alone and serves the others', async () => {
  for (const expected of [undefined, '1', '2']) {
    await startAndEnd();
    expect([culprit, ...others].map(deaths)).toEqual([expected, undefined, undefined]);
  }
  await plane.start();
  await culprit.expectOurState('Left');
  expect([culprit, ...others].map(deaths)).toEqual(['3', undefined, undefined]);
  for (const disk of others) await disk.expectOurState('Connected');
  expect(culprit.vbd.info().error).toMatch(/crashed 3 times in a row.*"ringdisk upgrade"/);
  expect(await culprit.read('state')).toBe('4');
  // And so does the fifth.
  await plane.kill();
  await plane.start();
  await culprit.expectOurState('Left');
});

test('whoever is meant to end lets the next one try once more', async () => {
  for (let i = 0; i < 3; i++) await startAndEnd();
  await plane.start();
  await culprit.expectOurState('Left');
  plane.daemon.handOver();
  await plane.kill();
  expect(deaths(culprit)).toBe('2');
  plane.datapath.crashes = () => false;
  await plane.start();
  await culprit.expectOurState('Connected');
  await quiet();
  expect(deaths(culprit)).toBeUndefined();
});

test('being killed is no crash, however often', async () => {
  for (let i = 0; i < 4; i++) await startAndEnd(() => plane.kill());
  await plane.start();
  await culprit.expectOurState('Connected');
  expect(deaths(culprit)).toBeUndefined();
});

test('those that a daemon died of come last, one at a time', async () => {
  plane.datapath.crashes = ({ domid }) => domid !== 3;
  await plane.start();
  for (const disk of [culprit, ...others]) await disk.expectOurState('Connected');
  await crash();
  await plane.start();
  expect([culprit, ...others].map(deaths)).toEqual(['1', '1', undefined]);
  await culprit.expectOurState('Connected');
  await quiet();
  const served = plane.datapath.connections.filter(({ isConnected }) => isConnected);
  expect(served.map(({ options }) => options.domid)).toEqual([3, 1]);
  // The second one's turn has not come: what happens now is not its fault.
  await crash();
  plane.datapath.crashes = () => false;
  await plane.start();
  for (const disk of others) await disk.expectOurState('Connected');
});

test('a frontend that starts over is served, and all is forgotten', async () => {
  for (let i = 0; i < 3; i++) await startAndEnd();
  plane.datapath.crashes = () => false;
  await plane.start();
  await culprit.expectOurState('Left');
  await culprit.writeFrontend({ state: '6' });
  await culprit.expectState('6');
  await culprit.writeFrontend({ state: '1' });
  await culprit.connect();
  await culprit.expectOurState('Connected');
  expect(deaths(culprit)).toBeUndefined();
});
