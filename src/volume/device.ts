// SPDX-License-Identifier: Apache-2.0
// A volume's block device: /dev/zvol/..., a link that udev makes a moment after ZFS has the zvol.
import { constants } from 'node:fs';
import { access, open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RunCommand } from '../zfs/command.ts';
import { isZfsError } from '../zfs/zfs_error.ts';
import { ManagerError } from './manager_types.ts';

const APPEARS_MS = 10_000;
const LOOK_MS = 20;
/** Where ZFS installs what its udev rule asks; the same folder on most systems. */
const ZVOL_ID = ['/usr/lib/udev/zvol_id', '/lib/udev/zvol_id'];

export function devicePath(dataset: string): string {
  return `/dev/zvol/${dataset}`;
}

/**
 * Whether the link has come in time, and leads to this dataset: after a revert there is one for a
 * moment that leads to what had the name before.
 */
export async function deviceAppears(run: RunCommand, dataset: string): Promise<boolean> {
  const device = devicePath(dataset);
  const deadline = performance.now() + APPEARS_MS;
  while (performance.now() < deadline) {
    if ((await isThere(device)) && (await leadsTo(run, device, dataset))) return true;
    await sleep(LOOK_MS);
  }
  return false;
}

async function isThere(device: string): Promise<boolean> {
  return access(device).then(
    () => true,
    () => false,
  );
}

async function leadsTo(run: RunCommand, device: string, dataset: string): Promise<boolean> {
  for (const program of ZVOL_ID) {
    try {
      return (await run(program, [device])).trim() === dataset;
    } catch (error) {
      if (!isZfsError(error, 'missing')) return false;
    }
  }
  // Nobody can be asked.
  return true;
}

/** Throws VOLUME_BUSY while a program has it for itself: ringdisk, a file system, dm, LVM. */
export async function refuseOpen(dataset: string, doing: string): Promise<void> {
  const device = devicePath(dataset);
  try {
    const file = await open(device, constants.O_RDONLY | constants.O_EXCL);
    await file.close();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    // Without a device nobody has it open; with its key missing nobody can.
    if (code === 'ENOENT' || code === 'EACCES' || code === 'ENXIO') return;
    if (code === 'EBUSY') throw new ManagerError('VOLUME_BUSY', `${doing}: ${device} is in use`);
    throw new ManagerError('VOLUME_BUSY', `${doing}: ${device} cannot be looked at: ${message}`);
  }
}
