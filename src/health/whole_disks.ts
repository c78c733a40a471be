// SPDX-License-Identifier: Apache-2.0
// Which disks a device of a pool lies on: partitions, and what device mapper and md make of disks,
// are taken apart by what sysfs tells.
import { readdir, realpath, stat } from 'node:fs/promises';
import path from 'node:path';

const SYSFS = '/sys/class/block';
const DEPTH_MAX = 5;
const DISKS_MAX = 64;
/** They have no SMART. */
const NOT_DISKS = /^(loop|zd|ram|zram|nbd|rbd|vd|xvd|sr)/;

/** Paths such as /dev/sdb, sorted. None: it is a file, or no disk of this host. */
export async function wholeDisks(device: string, sysfs: string = SYSFS): Promise<string[]> {
  const names = new Set<string>();
  try {
    await collect(path.basename(await realpath(device)), sysfs, names, DEPTH_MAX);
  } catch {
    // It is gone, which ZFS itself tells.
  }
  return [...names].sort().map((name) => `/dev/${name}`);
}

async function collect(
  name: string,
  sysfs: string,
  names: Set<string>,
  depth: number,
): Promise<void> {
  const folder = await realpath(path.join(sysfs, name));
  const isPartition = await stat(path.join(folder, 'partition')).then(
    () => true,
    () => false,
  );
  if (isPartition) {
    await collect(path.basename(path.dirname(folder)), sysfs, names, depth - 1);
    return;
  }
  const slaves = await readdir(path.join(folder, 'slaves')).catch(() => []);
  if (slaves.length > 0 && depth > 0) {
    for (const slave of slaves) await collect(slave, sysfs, names, depth - 1);
  } else if (slaves.length === 0 && !NOT_DISKS.test(name) && names.size < DISKS_MAX) {
    names.add(name);
  }
}
