// SPDX-License-Identifier: Apache-2.0
// Whose word counts when a disk is limited, what becomes of it, and who shares what.
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  ControlPlane,
  type Disk,
  eventually,
  type Nodes,
  quiet,
} from '../../support/control_plane.ts';

const NODE = 'sm-data/ringdisk-limits';

let plane: ControlPlane;
beforeEach(async () => {
  plane = new ControlPlane();
  await plane.start();
});
afterEach(async () => {
  await plane.end();
  expect(plane.datapath.held).toBe(0);
});

async function connected(nodes: Nodes = {}, domid = 7, devid = 51712): Promise<Disk> {
  const disk = await plane.attach(nodes, { domid, devid });
  await disk.connect();
  return disk;
}

/** The name of the set that holds for it. */
function setOf({ id: { domid, devid } }: Disk): string {
  const connection = plane.datapath.connections.find(
    ({ options, isConnected }) => isConnected && options.domid === domid && options.devid === devid,
  );
  return connection?.limits ?? '';
}

/** What it has of its group. */
function shareOf(disk: Disk): readonly [group: string, weight: number] | undefined {
  return plane.datapath.shares.get(setOf(disk));
}

/** What the data path limits this disk to, or its group; undefined: to nothing. */
function limitsOf(disk: Disk): object | undefined {
  const [set = setOf(disk)] = shareOf(disk) ?? [];
  const rates = plane.datapath.limitSets.get(set);
  return rates && Object.fromEntries(Object.entries(rates).filter(([, value]) => value !== 0));
}

describe('the order of those who have a say', () => {
  test('nobody: no set, and nothing is shown', async () => {
    const disk = await connected();
    expect(limitsOf(disk)).toBeUndefined();
    expect(disk.vbd.info().limits).toBeUndefined();
  });

  test('what stands before the target', async () => {
    const disk = await connected({ params: 'aio:iops=2000:burst=5:null:1G' });
    expect(limitsOf(disk)).toEqual({ iops: 2000, burst: 5 });
    expect(disk.vbd.info().limits).toEqual({ iops: 2000, burst: 5, from: 'target' });
  });

  test("the toolstack's node comes before that, and holds when it is written", async () => {
    const disk = await connected({ params: 'aio:iops=2000:null:1G', [NODE]: 'bps=1M' });
    expect(limitsOf(disk)).toEqual({ bps: 1024 ** 2 });
    await disk.writeBackend({ [NODE]: 'read-iops=7' });
    await eventually(() => disk.vbd.info().limits?.readIops === 7, 'the new figures');
    expect(limitsOf(disk)).toEqual({ readIops: 7 });
    await disk.writeBackend({ [NODE]: '' });
    await eventually(() => limitsOf(disk) === undefined, 'no limits');
    await disk.writeBackend({ [NODE]: undefined });
    await eventually(() => limitsOf(disk) !== undefined, 'the figures before the target');
    expect(limitsOf(disk)).toEqual({ iops: 2000 });
  });

  test('an operator comes before both, until he says otherwise', async () => {
    const disk = await connected({ params: 'aio:iops=2000:null:1G' });
    await disk.vbd.limit({ limits: { writeBps: 4096 } });
    expect(limitsOf(disk)).toEqual({ iops: 2000, writeBps: 4096 });
    await disk.vbd.limit({ limits: { iops: 0 } });
    expect(limitsOf(disk)).toEqual({ writeBps: 4096 });
    await disk.writeBackend({ [NODE]: 'iops=1' });
    await quiet();
    expect(limitsOf(disk)).toEqual({ writeBps: 4096 });
    expect(disk.vbd.info().limits?.from).toBe('operator');
    await disk.vbd.limit({ off: true });
    expect(limitsOf(disk)).toBeUndefined();
    await disk.vbd.limit({ reset: true });
    expect(limitsOf(disk)).toEqual({ iops: 1 });
  });
});

describe('what makes no sense', () => {
  test('in the node costs no guest its disk; what is wrong is shown', async () => {
    const disk = await plane.attach({ [NODE]: 'iops=fast' });
    await disk.connect();
    expect(limitsOf(disk)).toBeUndefined();
    expect(disk.vbd.info().limitsProblem).toContain(`${NODE} is "iops=fast", not limits such as`);
    await disk.writeBackend({ [NODE]: 'iops=5' });
    await eventually(() => limitsOf(disk) !== undefined, 'limits');
    expect(limitsOf(disk)).toEqual({ iops: 5 });
  });

  test('in the node of a disk in use: what holds stays, and the log says so once', async () => {
    const disk = await connected({ [NODE]: 'iops=5' });
    await disk.writeBackend({ [NODE]: 'iops=fast' });
    await eventually(() => plane.lines.some(({ msg }) => msg.includes('limits stay')), 'a line');
    await disk.writeBackend({ online: '1' });
    await quiet();
    expect(limitsOf(disk)).toEqual({ iops: 5 });
    expect(plane.lines.filter(({ msg }) => msg.includes('limits stay'))).toHaveLength(1);
  });

  test('from an operator: nothing changes', async () => {
    const disk = await connected({ params: 'aio:iops=5:null:1G' });
    const { vbd } = disk;
    await expect(vbd.limit({ limits: { burstBytes: 4096 } })).rejects.toThrow(
      'needs a limit of bps',
    );
    await expect(vbd.limit({ limits: { group: 'a' } })).rejects.toThrow('no group "a" yet');
    expect(limitsOf(disk)).toEqual({ iops: 5 });
    expect(vbd.info().limits).toEqual({ iops: 5, from: 'target' });
  });
});

describe('a group', () => {
  test('has one set, which the last of its disks takes with it', async () => {
    const a = await connected({ params: 'aio:group=web:iops=100:null:1G' });
    const b = await connected({ params: 'aio:group=web:null:1G' }, 8);
    expect(limitsOf(a)).toEqual({ iops: 100 });
    expect(limitsOf(b)).toEqual({ iops: 100 });
    expect(b.vbd.info().limits).toEqual({
      iops: 100,
      group: 'web',
      sharedWith: ['vbd3/7/51712'],
      from: 'target',
    });
    await b.vbd.limit({ limits: { iops: 50, bps: 4096 } });
    expect(limitsOf(a)).toEqual({ iops: 50, bps: 4096 });
    expect(a.vbd.info().limits?.from).toBe('operator');
    await b.vbd.limit({ off: true });
    expect(limitsOf(b)).toBeUndefined();
    expect([...plane.datapath.limitSets.keys()]).toEqual(['group web']);
    expect(a.vbd.info().limits?.sharedWith).toEqual([]);
    await a.vbd.limit({ limits: { group: 'other', iops: 3 } });
    expect([...plane.datapath.limitSets.keys()]).toEqual(['group other']);
  });

  test('is shared by weights, which are each disk’s own', async () => {
    const a = await connected({ params: 'aio:group=web:weight=3:iops=100:null:1G' });
    const b = await connected({ [NODE]: 'group=web' }, 8);
    expect(shareOf(a)).toEqual(['group web', 3]);
    expect(shareOf(b)).toEqual(['group web', 1]);
    expect(a.vbd.info().limits).toMatchObject({ group: 'web', weight: 3 });
    await b.writeBackend({ [NODE]: 'group=web,weight=7' });
    await eventually(() => shareOf(b)?.[1] === 7, 'the new weight');
    await b.vbd.limit({ limits: { weight: 9 } });
    await b.vbd.limit({ limits: { iops: 50 } });
    expect(shareOf(b)).toEqual(['group web', 9]);
    expect(limitsOf(a)).toEqual({ iops: 50 });
    await a.vbd.limit({ limits: { group: 'other', iops: 3 } });
    expect(shareOf(a)).toEqual(['group other', 3]);
    await a.vbd.limit({ off: true });
    expect([...plane.datapath.shares.values()]).toEqual([['group web', 9]]);
    await expect(a.vbd.limit({ limits: { weight: 2, iops: 5 } })).rejects.toThrow('needs a group');
    await plane.kill();
    await plane.start();
    await b.expectOurState('Connected');
    expect(shareOf(b)).toEqual(['group web', 9]);
  });

  test("an operator's figures outlive the toolstack's, until they are reset", async () => {
    const a = await connected({ params: 'aio:group=web:iops=100:null:1G' });
    await a.vbd.limit({ limits: { iops: 50 } });
    const b = await connected({ params: 'aio:group=web:iops=200:null:1G' }, 8);
    expect(limitsOf(b)).toEqual({ iops: 50 });
    await b.vbd.limit({ reset: true });
    expect(limitsOf(a)).toEqual({ iops: 200 });
  });
});

describe('over a restart', () => {
  async function restart(): Promise<void> {
    await plane.kill();
    await plane.start();
  }

  test.each([
    [{ limits: { iops: 7, burst: 9 } }, { iops: 7, burst: 9 }],
    [{ off: true }, undefined],
    [{}, { iops: 5 }],
  ])("an operator's word %j holds", async (change, expected) => {
    const disk = await connected({ params: 'aio:iops=5:null:1G' });
    if (Object.keys(change).length > 0) await disk.vbd.limit(change);
    await restart();
    await disk.expectOurState('Connected');
    expect(limitsOf(disk)).toEqual(expected);
    await restart();
    await disk.expectOurState('Connected');
    expect(limitsOf(disk)).toEqual(expected);
  });

  test("a group's figures hold, and the node's that was written meanwhile", async () => {
    const a = await connected({ params: 'aio:group=web:iops=100:null:1G' });
    const b = await connected({ [NODE]: 'iops=1' }, 8);
    await a.vbd.limit({ limits: { iops: 50 } });
    await plane.kill();
    await b.writeBackend({ [NODE]: 'iops=2' });
    await plane.start();
    await a.expectOurState('Connected');
    await b.expectOurState('Connected');
    expect(limitsOf(a)).toEqual({ iops: 50 });
    expect(limitsOf(b)).toEqual({ iops: 2 });
  });

  test('a file of groups that is spoilt costs the figures, not the disks', async () => {
    const a = await connected({ params: 'aio:group=web:null:1G' });
    await a.vbd.limit({ limits: { iops: 50 } });
    const file = path.join(plane.runtimeDir, 'limit-groups.json');
    expect(JSON.parse(readFileSync(file, 'utf8')).groups.web.limits).toBe('iops=50');
    writeFileSync(file, '{"version":1,"groups":{"web":');
    await restart();
    await a.expectOurState('Connected');
    expect(limitsOf(a)).toEqual({});
    expect(plane.lines.some(({ msg }) => msg.includes('groups cannot be read'))).toBe(true);
  });
});

test('a disk that is attached anew has no word of an operator', async () => {
  const disk = await connected();
  await disk.vbd.limit({ limits: { iops: 7 } });
  await disk.deleteBackend();
  await eventually(() => plane.datapath.limitSets.size === 0, 'its set is gone');
  expect(limitsOf(await connected())).toBeUndefined();
});

test('what a disk that is not connected is told holds when it connects', async () => {
  const disk = await plane.attach();
  await disk.expectState('2');
  await disk.vbd.limit({ limits: { iops: 7 } });
  expect(disk.vbd.info().limits).toEqual({ iops: 7, from: 'operator' });
  await disk.connect();
  expect(limitsOf(disk)).toEqual({ iops: 7 });
});
