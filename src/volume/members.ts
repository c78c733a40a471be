// SPDX-License-Identifier: Apache-2.0
// The name that a pool has for one of its disks, whichever of its names an operator gives: ZFS
// knows the one that it was added by, with the partition that it made there.
import { realpath } from 'node:fs/promises';
import path from 'node:path';
import type { VdevNode } from '../zfs/pool_status.ts';
import type { Context } from './context.ts';
import { explained } from './failures.ts';
import { ManagerError } from './manager_types.ts';

/** Throws DISK_UNKNOWN, with the names that there are. */
export async function memberName(context: Context, pool: string, disk: string): Promise<string> {
  const { vdevs } = await explained('pool', `the disks of ${pool} cannot be read`, () =>
    context.zpool.status(pool),
  );
  const all = Object.values(vdevs).flat().flatMap(withChildren);
  const exact = all.find(({ name }) => name === disk);
  if (exact) return exact.name;
  const matching: string[] = [];
  const wanted = await devicesOf(disk);
  for (const member of all) if (await isNamed(member, disk, wanted)) matching.push(member.name);
  const [only, ...others] = matching;
  if (only !== undefined && others.length === 0) return only;
  const known = all.filter(({ children }) => children.length === 0).map(({ name }) => name);
  throw new ManagerError(
    'DISK_UNKNOWN',
    `${JSON.stringify(disk)} is no disk of the pool ${pool}: it has ${known.join(', ')}`,
  );
}

function withChildren(vdev: VdevNode): VdevNode[] {
  return [vdev, ...vdev.children.flatMap(withChildren)];
}

async function isNamed(member: VdevNode, disk: string, wanted: string[]): Promise<boolean> {
  // A disk that is gone has a number for a name, and its old one beside it.
  const was = /was (\/\S+)/.exec(member.note ?? '')?.[1];
  for (const name of was === undefined ? [member.name] : [member.name, was]) {
    if (path.basename(wholeDisk(name)) === disk || path.basename(name) === disk) return true;
    const devices = await devicesOf(name);
    if (devices.some((device) => wanted.includes(device))) return true;
  }
  return false;
}

/** A path's own name, and the device that it leads to; of partitions also the whole disk. */
async function devicesOf(name: string): Promise<string[]> {
  if (!path.isAbsolute(name)) return [];
  const device = await realpath(name).catch(() => name);
  return [name, wholeDisk(name), device, wholeDisk(device)];
}

/** "/dev/disk/by-id/x-part1", "/dev/nvme0n1p1", "/dev/sda1"; where it is none, as it is. */
export function wholeDisk(name: string): string {
  if (/-part\d+$/.test(name)) return name.replace(/-part\d+$/, '');
  if (/^\/dev\/\w*\d+p\d+$/.test(name)) return name.replace(/p\d+$/, '');
  return name.replace(/^(\/dev\/(?:sd|vd|xvd|hd)[a-z]+)\d+$/, '$1');
}
