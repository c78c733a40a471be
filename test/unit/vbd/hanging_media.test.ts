// SPDX-License-Identifier: Apache-2.0
// A medium that hangs costs its own disk, and nothing else.
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { NativeTargetSpec } from '../../../src/datapath/binding.ts';
import { OpenTargets } from '../../../src/vbd/open_targets.ts';
import {
  blkfrontNodes,
  ControlPlane,
  type Disk,
  eventually,
  quiet,
} from '../../support/control_plane.ts';

let plane: ControlPlane;
/** Paths below /dead hang until then. */
let thaw: () => void;
let frozen: Promise<void>;
beforeEach(() => {
  plane = new ControlPlane();
  frozen = new Promise<void>((resolve) => {
    thaw = resolve;
  });
  const hang = async ({ path }: NativeTargetSpec) => {
    if (path.startsWith('/dead')) await frozen;
  };
  plane.datapath.mayOpen = hang;
  plane.datapath.mayClaim = hang;
});
afterEach(async () => {
  thaw();
  await plane.end();
  expect(plane.datapath.held).toBe(0);
});

async function isRefused(disk: Disk): Promise<boolean> {
  return (await disk.read('hotplug-status')) === 'error';
}

describe('an offer whose medium hangs', () => {
  test('is refused in time, and goes on by itself when it answers', async () => {
    await plane.start();
    const disk = await plane.attach({ params: 'aio:/dead/a' });
    await sleep(120);
    expect(await disk.read('hotplug-status')).toBeUndefined();
    await eventually(() => isRefused(disk), 'a refusal');
    const message = /open of "\/?.*dead\/a" has not answered for 0.25 s: its storage hangs/;
    expect(await disk.read('hotplug-error')).toMatch(message);
    expect(disk.vbd.info().error).toMatch(message);
    thaw();
    await disk.connect();
    expect(await disk.read('hotplug-status')).toBe('connected');
    expect(disk.vbd.info().error).toBeUndefined();
    expect(plane.datapath.opens).toBe(1);
  });

  test('is shown with the call and since when', async () => {
    await plane.start();
    const disk = await plane.attach({ params: 'aio:/dead/a' });
    await sleep(1050);
    expect(disk.vbd.info().waits).toEqual([
      { call: 'open', since: expect.stringMatching(/^2.*Z$/), count: 1 },
    ]);
  });

  test('or whose claim does, and what goes beside what comes, are shown as well', async () => {
    plane.datapath.mayOpen = () => Promise.resolve();
    plane.datapath.mayLetGo = () => frozen;
    await plane.start();
    const before = await plane.attach({ params: 'aio:/srv/b' });
    await before.connect();
    const [target] = plane.datapath.targets;
    if (target) target.hangs = [{ call: 'write', sinceMs: 2000, count: 3 }];
    await before.remove();
    await before.deleteFrontend();
    await before.expectState('6');
    await before.deleteBackend();
    const disk = await plane.attach({ params: 'aio:/dead/a' });
    await disk.expectState('2');
    expect(disk.vbd.info().waits).toMatchObject([{ call: 'write', count: 3 }]);
    const other = await plane.attach({ params: 'aio:/dead/b' }, { domid: 8 });
    await other.expectState('2');
    await other.writeFrontend({ ...blkfrontNodes, state: '3' });
    await sleep(1050);
    expect(other.vbd.info().waits).toEqual([
      { call: 'claim', since: expect.stringMatching(/^2.*Z$/), count: 1 },
    ]);
    thaw();
    await other.expectState('4');
  });

  test("answers the toolstack's wish to close, before and after the refusal", async () => {
    await plane.start();
    for (const wait of [30, 300]) {
      const disk = await plane.attach({ params: 'aio:/dead/a' }, { domid: wait });
      await sleep(wait);
      const started = performance.now();
      await disk.remove();
      await disk.expectState('6');
      expect(performance.now() - started).toBeLessThan(150);
      await disk.deleteBackend();
    }
    await eventually(() => plane.daemon.vbds().length === 0, 'no VBD');
    // What nobody waits for any more is joined, not piled up, and closed when it comes.
    expect(plane.datapath.opens).toBe(1);
    thaw();
    await eventually(() => plane.datapath.targets.length === 1, 'the late one');
  });

  test('delays nobody else: offers, take-overs, the end of the daemon', async () => {
    await plane.start();
    const good = await plane.attach({ params: 'aio:/srv/good' }, { domid: 1 });
    await good.connect();
    const dead: Disk[] = [];
    for (let domid = 100; domid < 140; domid++) {
      dead.push(await plane.attach({ params: `aio:/dead/${domid}` }, { domid }));
    }
    await quiet();
    const started = performance.now();
    await (await plane.attach({ params: 'aio:/srv/new' }, { domid: 2 })).expectState('2');
    expect(performance.now() - started).toBeLessThan(500);
    const stopped = plane.daemon.stop();
    await good.expectState('5');
    await good.writeFrontend({ state: '6' });
    await stopped;
    for (const disk of dead) expect(await disk.read('state')).toBe('1');
  });

  test('another disc in the drive does not wait for the one that hangs', async () => {
    await plane.start();
    const disk = await plane.attach({ params: 'aio:/dead/a' });
    await quiet();
    await disk.writeBackend({ params: 'aio:/srv/b' });
    await disk.connect();
    expect(disk.vbd.info().target?.path).toBe('/srv/b');
  });
});

test('a hundred disks of a server that is gone do not stop the others', async () => {
  await plane.start({}, { openMs: 20 });
  for (let n = 0; n < 100; n++) await plane.attach({ params: `aio:/dead/${n}` }, { domid: n + 1 });
  await eventually(() => plane.datapath.opens === 100, 'all opens');
  await sleep(30);
  await (await plane.attach({ params: 'aio:/srv/a' }, { domid: 200 })).expectState('2');
});

test('opens that hang are bounded', async () => {
  await plane.start();
  const targets = new OpenTargets(plane.datapath, plane.xenstore, 20);
  const user = { name: 'vbd3/1/51712', domid: 1, readOnly: false, share: false };
  const open = (name: string) => {
    const spec = { kind: 'file', path: name, readOnly: false } as const;
    const { signal } = new AbortController();
    return targets.open(spec, user, { takeOver: true, signal });
  };
  const hanging = Array.from({ length: 1024 }, (_, n) => open(`/dead/${n}`));
  await eventually(() => plane.datapath.opens === 1024, 'all opens');
  await sleep(30);
  await expect(open('/srv/a')).rejects.toThrow(/1024 targets .* have not answered/);
  thaw();
  for (const use of await Promise.all(hanging)) await use.close();
  await (await open('/srv/a')).close();
});

describe('a take-over whose medium hangs', () => {
  async function orphans(params: string[]): Promise<Disk[]> {
    const mayOpen = plane.datapath.mayOpen;
    const { mayClaim } = plane.datapath;
    plane.datapath.mayOpen = () => Promise.resolve();
    plane.datapath.mayClaim = () => Promise.resolve();
    await plane.start();
    const disks = await Promise.all(
      params.map((target, index) => plane.attach({ params: target }, { domid: index + 1 })),
    );
    await Promise.all(disks.map((disk) => disk.connect()));
    await plane.kill();
    Object.assign(plane.datapath, { mayOpen, mayClaim });
    return disks;
  }

  test('delays no other, however many there are, and goes on when it answers', async () => {
    const dead = Array.from({ length: 40 }, (_, index) => `aio:/dead/${index}`);
    const disks = await orphans([...dead, 'aio:/srv/a']);
    const started = performance.now();
    await plane.start();
    await disks.at(-1)?.expectOurState('Connected');
    expect(performance.now() - started).toBeLessThan(1000);
    await (await plane.attach({ params: 'aio:/srv/b' }, { domid: 100 })).expectState('2');
    const [hanging] = disks as [Disk];
    await hanging.expectOurState('Left');
    await eventually(() => hanging.vbd.info().error !== undefined, 'a reason');
    expect(hanging.vbd.info().error).toMatch(/open of "\/dead\/0" has not answered for 0.25 s/);
    thaw();
    for (const disk of disks) await disk.expectOurState('Connected');
    expect(hanging.vbd.info().error).toBeUndefined();
  });

  test('a frontend that goes meanwhile is answered', async () => {
    const [disk] = (await orphans(['aio:/dead/a'])) as [Disk];
    await plane.start();
    await disk.expectOurState('Left');
    await disk.remove();
    await disk.expectState('5');
    await disk.deleteFrontend();
    await disk.expectState('6');
    thaw();
  });

  test('the toolstack asks for the end: its guest is served until it closes', async () => {
    const [disk] = (await orphans(['aio:/dead/a'])) as [Disk];
    await plane.start();
    await disk.expectOurState('Left');
    await disk.remove();
    await disk.expectState('5');
    thaw();
    await eventually(() => plane.datapath.connections.at(-1)?.isConnected === true, 'a take-over');
    expect(plane.datapath.connections).toHaveLength(2);
    await disk.writeFrontend({ state: '6' });
    await disk.expectState('6');
  });

  test('a frontend that is about to connect is not offered anything new', async () => {
    const [disk] = (await orphans(['aio:/dead/a'])) as [Disk];
    await disk.writeFrontend({ state: '3' });
    await plane.start();
    await disk.expectOurState('Left');
    await quiet();
    expect(await disk.read('state')).toBe('4');
    await disk.writeFrontend({ state: '4' });
    thaw();
    await disk.expectOurState('Connected');
  });
});

test('a claim that hangs leaves the VBD in InitWait, and its removal is answered', async () => {
  await plane.start();
  const { mayOpen } = plane.datapath;
  plane.datapath.mayOpen = () => Promise.resolve();
  const disk = await plane.attach({ params: 'aio:/dead/a' });
  await disk.expectState('2');
  plane.datapath.mayOpen = mayOpen;
  await disk.writeFrontend({ ...blkfrontNodes, state: '3' });
  await sleep(200);
  expect(await disk.read('state')).toBe('2');
  await disk.remove();
  await disk.deleteFrontend();
  await disk.expectState('6');
});

test('a disk that is closed while its last I/O hangs is shown with that', async () => {
  await plane.start();
  const disk = await plane.attach({ params: 'aio:/srv/a' });
  await disk.connect();
  let letGo = () => {};
  plane.datapath.mayLetGo = () =>
    new Promise<void>((resolve) => {
      letGo = resolve;
    });
  const [target] = plane.datapath.targets;
  if (target) target.hangs = [{ call: 'write', sinceMs: 5000, count: 3 }];
  await disk.remove();
  await disk.writeFrontend({ state: '6' });
  await disk.expectState('6');
  const waits = [{ call: 'write', since: expect.stringMatching(/^2.*Z$/), count: 3 }];
  expect(disk.vbd.info()).toMatchObject({ state: 'Closed', waits });
  letGo();
  await eventually(() => disk.vbd.info().waits === undefined, 'no wait');
});

test('a disk that hangs is shown with what its worker waits for', async () => {
  await plane.start();
  const disk = await plane.attach({ params: 'aio:/srv/a' });
  await disk.connect();
  const [target] = plane.datapath.targets;
  if (target) target.hangs = [{ call: 'flush', sinceMs: 5000, count: 3 }];
  expect(disk.vbd.info().waits).toEqual([
    { call: 'flush', since: expect.stringMatching(/^2.*Z$/), count: 3 },
  ]);
});
