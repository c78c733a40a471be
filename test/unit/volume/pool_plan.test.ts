// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import type { PoolLayout } from '../../../src/volume/manager_types.ts';
import { type PlannedDisk, planOf } from '../../../src/volume/pool_plan.ts';

const TB = 1e12;

function disksOf(wish: PoolLayout, more: Partial<PlannedDisk> = {}) {
  const { disks, log = [], cache = [], special = [], spare = [] } = wish;
  const all = [...disks, ...log, ...cache, ...special, ...spare];
  return new Map(
    all.map((path): [string, PlannedDisk] => [
      path,
      { path, size: 10 * TB, physicalSector: 512, rotational: true, isFile: false, ...more },
    ]),
  );
}

function plan(wish: PoolLayout & { reserve?: number }, more: Partial<PlannedDisk> = {}) {
  return planOf({ pool: 'tank', wish, disks: disksOf(wish, more), settings: [] });
}

const names = (count: number) => Array.from({ length: count }, (_, i) => `d${i}`);

describe('a pool from plain words', () => {
  it.each<[PoolLayout, string]>([
    [{ layout: 'stripe', disks: names(2) }, 'd0 d1'],
    [{ layout: 'mirror', disks: names(4) }, 'mirror d0 d1 mirror d2 d3'],
    [{ layout: 'mirror', disks: names(3), width: 3 }, 'mirror d0 d1 d2'],
    [{ layout: 'raidz2', disks: names(4) }, 'raidz2 d0 d1 d2 d3'],
    [{ layout: 'draid', disks: names(11) }, `draid2:8d:11c:1s ${names(11).join(' ')}`],
    [
      { layout: 'mirror', disks: names(2), log: ['l'], cache: ['c'], special: ['s', 't'] },
      'mirror d0 d1 log l special mirror s t cache c',
    ],
  ])('%j', (wish, words) => {
    expect(plan(wish).command.join(' ')).toBe(`zpool create -o ashift=12 tank ${words}`);
  });

  it.each<[PoolLayout & { reserve?: number }, RegExp]>([
    [{ layout: 'mirror', disks: names(3) }, /3 disks are no whole number of groups of 2/],
    [{ layout: 'raidz3', disks: names(4) }, /at least 5 disks, not 4/],
    [{ layout: 'draid', disks: names(3) }, /draid has at least 4/],
    [{ layout: 'stripe', disks: ['a', 'a'] }, /a is named twice/],
    [{ layout: 'stripe', disks: ['a'], ashift: 17 }, /no number from 9 to 16/],
    [{ layout: 'stripe', disks: ['a'], reserve: 91 }, /91 % cannot be reserved/],
  ])('%j is refused', (wish, why) => {
    expect(() => plan(wish)).toThrow(why);
  });

  it('never has blocks smaller than the disks', () => {
    const wish: PoolLayout = { layout: 'stripe', disks: ['a'] };
    expect(plan(wish, { physicalSector: 8192 }).ashift).toBe(13);
    expect(() => plan({ ...wish, ashift: 12 }, { physicalSector: 8192 })).toThrow(/8192 bytes/);
  });

  it('keeps a fifth free, unless told otherwise', () => {
    const wish: PoolLayout = { layout: 'mirror', disks: names(2) };
    const { usableBytes, reservedBytes } = plan(wish);
    expect(reservedBytes / (usableBytes + reservedBytes)).toBeCloseTo(0.2, 5);
    expect(plan({ ...wish, reserve: 0 }).reservedBytes).toBe(0);
  });

  it('says what a failure costs', () => {
    expect(plan({ layout: 'stripe', disks: names(2) }).failures).toEqual([
      'Any disk that fails takes the whole pool with it.',
    ]);
    const many = plan({ layout: 'mirror', disks: names(4), log: ['l'], special: ['s'] });
    expect(many.failures[0]).toMatch(/^One disk of each group may fail without loss/);
    expect(many.failures.join()).toMatch(
      /last seconds .*special disk failing takes the whole pool/,
    );
    expect(many.warnings.join()).toMatch(/special disk has no mirror/);
  });

  it('warns of parity that short blocks have', () => {
    const wish: PoolLayout = { layout: 'raidz2', disks: names(8) };
    expect(plan(wish).warnings.join()).toMatch(/16 KiB take 1\.07 times/);
    expect(plan({ layout: 'mirror', disks: names(2) }).warnings).toEqual([]);
  });
});
