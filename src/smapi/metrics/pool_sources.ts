// SPDX-License-Identifier: Apache-2.0
// What is told of an SR's pool, and of ZFS's cache. Pure, but for reading where the kernel says it.
import { readFile } from 'node:fs/promises';
import type { PoolInfo } from '../../volume/manager_types.ts';
import type { SrPool } from './pool_figures.ts';
import type { DataSource } from './rrd_format.ts';

const ARC_FILE = '/proc/spl/kstat/zfs/arcstats';

/** `nameOf`: "zpool_free" as it is called of this SR. */
export function poolSources(
  { uuid, info, scanProgress = 0, errors }: SrPool,
  nameOf: (name: string) => string,
): DataSource[] {
  const { pool, freeBytes, usedBytes, capacity, fragmentation } = info;
  const told = (name: string, description: string, units: string, value: number): DataSource => ({
    ...gauge(description, units, value),
    owner: 'host',
    name: nameOf(name),
  });
  const used = gauge(`Space of the pool ${pool} that is used`, 'B', usedBytes);
  return [
    { ...used, owner: `sr ${uuid}`, name: 'physical_utilisation' },
    told('zpool_free', `Space that is left for volumes in the pool ${pool}`, 'B', freeBytes),
    told('zpool_capacity', `Used of the raw space of the pool ${pool}`, '%', capacity),
    told('zpool_fragmentation', `Fragmentation of free space of ${pool}`, '%', fragmentation),
    told('zpool_health', `The pool ${pool}: 0 online, 1 degraded, 2 without I/O`, '', health(info)),
    told('zpool_scan', `Scrubbed or resilvered of ${pool}`, '%', Math.floor(scanProgress * 100)),
    ...(errors === undefined
      ? []
      : [told('zpool_errors', `Errors of the disks of ${pool}`, 'errors', errors)]),
  ];
}

/** ZFS's words as a figure that grows with the trouble. */
function health({ state }: PoolInfo): number {
  if (state === 'ONLINE') return 0;
  return state === 'DEGRADED' ? 1 : 2;
}

function gauge(description: string, units: string, value: number) {
  return { type: 'gauge', valueType: 'int64', description, units, value } as const;
}

/** None where there is no ZFS. */
export async function arcSources(file = ARC_FILE): Promise<DataSource[]> {
  try {
    const [, size] = /^size\s+\d+\s+(\d+)$/m.exec(await readFile(file, 'utf8')) ?? [];
    if (size === undefined) return [];
    const about = gauge("Memory of the host that ZFS's cache has", 'B', Number(size));
    return [{ ...about, owner: 'host', name: 'zfs_arc_size' }];
  } catch {
    return [];
  }
}
