// SPDX-License-Identifier: Apache-2.0
// What is made of counters: what has come since, what there has been, and whose it is.
import { expect, test } from 'vitest';
import { Growth, SharedGrowth } from '../../../../src/smapi/metrics/growth.ts';
import { Guests } from '../../../../src/smapi/metrics/guests.ts';
import { ioSources } from '../../../../src/smapi/metrics/io_sources.ts';
import { PoolFigures } from '../../../../src/smapi/metrics/pool_figures.ts';
import { poolSources } from '../../../../src/smapi/metrics/pool_sources.ts';
import { type ServedDisk, sumOf } from '../../../../src/smapi/metrics/served_disks.ts';
import type { PoolInfo, PoolStatus } from '../../../../src/volume/manager_types.ts';

function disk(name: string, generation: string, reads: number): ServedDisk {
  const totals = { ...sumOf([]), reads, readBytes: reads * 4096, readNs: reads * 1000 };
  const id = { kind: 'qdisk', domid: 7, devid: 51712 };
  return { name, id, exportName: name, generation, totals, inFlight: 3 };
}

test('the first look only learns where each stands; what comes later began from nothing', () => {
  const growth = new Growth();
  expect(growth.look([disk('a', '1', 100)]).get('a')?.since.reads).toBe(0);
  const second = growth.look([disk('a', '1', 130), disk('b', '2', 5)]);
  expect([second.get('a')?.since.reads, second.get('b')?.since.reads]).toEqual([30, 5]);
  expect(growth.look([disk('a', '1', 130)]).get('a')?.since.reads).toBe(0);
});

test('a guest that connects anew counts from 0, and what there has been does not shrink', () => {
  const growth = new Growth();
  growth.look([disk('a', '1', 100)]);
  growth.look([disk('a', '1', 150)]);
  const again = growth.look([disk('a', '2', 20)]).get('a');
  expect([again?.since.reads, again?.all.reads]).toEqual([20, 70]);
  const less = growth.look([disk('a', '2', 8)]).get('a');
  expect([less?.since.reads, less?.all.reads]).toEqual([8, 78]);
});

test('what disks have in common goes on when one of them goes', () => {
  const [growth, shared] = [new Growth(), new SharedGrowth()];
  const look = (...disks: ServedDisk[]) => shared.add('sr', [...growth.look(disks).values()]);
  look(disk('a', '1', 0), disk('b', '2', 0));
  look(disk('a', '1', 10), disk('b', '2', 20));
  const { since, all, inFlight } = look(disk('a', '1', 11));
  expect([since.reads, all.reads, inFlight]).toEqual([1, 31, 3]);
});

test('latencies are those of the interval, in microseconds, and 0 where nothing came', () => {
  const growth = new Growth();
  growth.look([disk('a', '1', 0)]);
  const busy = growth.look([disk('a', '1', 50)]).get('a');
  const idle = growth.look([disk('a', '1', 50)]).get('a');
  const of = (activity: typeof busy) => {
    if (!activity) throw new Error('no activity');
    const sources = ioSources('host', 'the SR', (name) => name, activity, 5);
    return Object.fromEntries(sources.map(({ name, value }) => [name, value]));
  };
  expect(of(busy)).toMatchObject({ read_latency: 1, latency: 1, write_latency: 0, inflight: 3 });
  expect(of(busy)).toMatchObject({ iops_total: 50, iowait: 50e-6, avgqu_sz: 10e-6 });
  expect(of(idle)).toMatchObject({ read_latency: 0, iops_read: 0, read: 50 * 4096 });
});

const INFO: PoolInfo = {
  ...{ pool: 'tank', guid: '1', state: 'DEGRADED', fragmentation: 12, capacity: 34 },
  ...{ freeBytes: 600, usedBytes: 400, totalBytes: 1000, reservedBytes: 0, readOnly: false },
  store: { uuid: 'u', name: '', description: '', dataset: '', owned: true, keys: {} },
};
const VDEV = { kind: 'disk', state: 'ONLINE', readErrors: 1, writeErrors: 0 } as const;
const STATUS: PoolStatus = {
  ...{ ...INFO, healthy: false, errors: '', warnings: [], scanProgress: 0.256 },
  vdevs: {
    ...{ log: [], cache: [], special: [], spare: [] },
    data: [
      {
        ...{ ...VDEV, name: 'mirror-0', checksumErrors: 0 },
        children: [{ ...VDEV, name: 'sda', checksumErrors: 4, children: [] }],
      },
    ],
  },
};

test('a pool’s figures are asked for now and then, and told until they are too old', async () => {
  let [now, asked, isBroken] = [0, 0, false];
  const manager = {
    listPools: async () => {
      asked++;
      if (isBroken) throw new Error('no module');
      return [INFO];
    },
    poolStatus: async () => STATUS,
  };
  const figures = new PoolFigures(manager, () => now);
  await figures.refresh();
  await figures.refresh();
  expect([asked, figures.srOf('tank')]).toEqual([1, 'u']);
  const [pool] = figures.pools;
  if (!pool) throw new Error('no pool');
  const told = poolSources(pool, (name) => `${name}_u`).map(({ name, value }) => [name, value]);
  expect(Object.fromEntries(told)).toEqual({
    ...{ physical_utilisation: 400, zpool_free_u: 600, zpool_capacity_u: 34 },
    ...{ zpool_fragmentation_u: 12, zpool_health_u: 1, zpool_scan_u: 25, zpool_errors_u: 6 },
  });
  isBroken = true;
  now = 40_000;
  await figures.refresh();
  expect([asked, figures.pools.length]).toEqual([2, 1]);
  now = 200_000;
  expect(figures.pools).toEqual([]);
  // Disks in a pool that hangs are told of all the same.
  expect(figures.srOf('tank')).toBe('u');
});

test('who has a disk is asked for once, and without xenstored for nobody', async () => {
  const asked: string[] = [];
  let isThere = true;
  const xenstore = {
    read: async (node: string) => {
      if (!isThere) throw new Error('no xenstored');
      asked.push(node);
      return node.endsWith('/vm') ? '/vm/6B1E3C1E-0000-4000-8000-000000000001' : 'xvda';
    },
    close: async () => {},
  };
  const guests = new Guests(async () => xenstore);
  const who = { uuid: '6b1e3c1e-0000-4000-8000-000000000001', device: 'xvda' };
  expect((await guests.of([disk('a', '1', 0)])).get('a')).toEqual(who);
  expect((await guests.of([disk('a', '1', 9)])).get('a')).toEqual(who);
  expect(asked).toEqual(['/local/domain/7/vm', '/local/domain/0/backend/qdisk/7/51712/dev']);
  isThere = false;
  const both = await guests.of([disk('a', '1', 9), disk('b', '1', 0), disk('c', '1', 0)]);
  expect([...both.keys()]).toEqual(['a']);
});
