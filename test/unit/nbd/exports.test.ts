// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { deferred } from '../../../src/vbd/beside.ts';
import { ControlPlane, type Disk, eventually, quiet } from '../../support/control_plane.ts';

const IMAGE = '/srv/image';
const LINK = '/srv/link';

let plane: ControlPlane;
beforeEach(() => {
  plane = new ControlPlane();
  for (const path of [IMAGE, LINK]) plane.datapath.media.set(path, { identity: 'dm image' });
});
afterEach(async () => {
  await plane.end();
  expect(plane.datapath.held).toBe(0);
});

function record(): string {
  return path.join(plane.runtimeDir, 'exports.json');
}

function attach(): Promise<Disk> {
  return plane.attach({ params: `aio:${IMAGE}` });
}

test('one that is removed while it is being added is neither listed nor held', async () => {
  const { exports } = await plane.start({}, { openMs: 60_000 });
  const answer = deferred();
  plane.datapath.mayClaim = () => answer.promise;
  const adding = exports.add({ source: IMAGE, name: 'a' });
  adding.catch(() => {});
  await eventually(() => plane.datapath.held === 1, 'an open target');
  await exports.remove('a');
  answer.resolve();
  await expect(adding).rejects.toThrow('removed');
  expect(exports.list()).toEqual([]);
  expect(plane.datapath.held).toBe(0);
});

test('one whose medium does not answer is not waited for for ever', async () => {
  const { exports } = await plane.start();
  plane.datapath.mayClaim = () => new Promise(() => {});
  await expect(exports.add({ source: IMAGE, name: 'a' })).rejects.toThrow('its storage hangs');
  expect(exports.list()).toEqual([]);
});

test('one is ended also where that cannot be recorded, which is said', async () => {
  const { exports } = await plane.start();
  await exports.add({ source: IMAGE, name: 'a' });
  mkdirSync(`${record()}.new`);
  await expect(exports.remove('a')).rejects.toThrow('a restart of the daemon would go by');
  expect(plane.datapath.held).toBe(0);
  expect(exports.list()).toEqual([]);
  rmSync(`${record()}.new`, { recursive: true });
  await exports.add({ source: IMAGE, name: 'b' });
  expect(readFileSync(record(), 'utf8')).not.toContain('"a"');
});

test('who dies before the hand-over does not let the disk connect before it', async () => {
  const { exports } = await plane.start();
  await exports.add({ source: LINK, name: 'a', handOver: true });
  const disk = await attach();
  await disk.expectState('2');
  await disk.writeFrontend({ 'ring-ref': '8', 'event-channel': '5', state: '3' });
  await quiet();
  expect(await disk.read('state')).toBe('2');
  await plane.kill();
  // It is slow to come back, by another name of the same medium.
  const back = deferred();
  plane.datapath.mayOpen = ({ path }) => (path === LINK ? back.promise : Promise.resolve());
  const daemon = await plane.start();
  await quiet();
  expect(await disk.read('state')).toBe('2');
  back.resolve();
  await eventually(() => daemon.exports.list()[0]?.state === 'exported', 'the export');
  expect(await disk.read('state')).toBe('2');
  plane.datapath.goodbyes = 1;
  await disk.expectState('4');
  expect(daemon.exports.list()).toEqual([]);
});

test('names that are no text are told as bytes', async () => {
  const { exports } = await plane.start();
  plane.datapath.media.set('/srv/\udce9.img', { identity: 'dm odd' });
  const { uri } = await exports.add({ source: '/srv/\udce9.img' });
  expect(uri).toMatch(/^nbd\+unix:\/\/\/%E9\.img\?socket=\/.*\/%E9\.img\.sock$/);
  expect(exports.list()).toHaveLength(1);
});

test('one that a record tells in a way unknown here costs no other', async () => {
  const first = await plane.start();
  await first.exports.add({ source: IMAGE, name: 'a', readOnly: true });
  await plane.kill();
  const whole = JSON.parse(readFileSync(record(), 'utf8'));
  whole.exports.unshift({ ...whole.exports[0], name: 'b', speaks: 'in tongues' });
  writeFileSync(record(), JSON.stringify(whole));
  const { exports } = await plane.start();
  await eventually(() => exports.list()[0]?.state === 'exported', 'the export');
  expect(exports.list().map(({ name }) => name)).toEqual(['a']);
  expect(plane.lines).toContainEqual(expect.objectContaining({ level: 50, export: 'b' }));
});
