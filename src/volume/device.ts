// SPDX-License-Identifier: Apache-2.0
// A volume's block device: /dev/zvol/..., a link that udev makes a moment after ZFS has the zvol.
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RunCommand } from '../zfs/command.ts';
import { ZfsError } from '../zfs/zfs_error.ts';
import { ManagerError } from './manager_types.ts';

const APPEARS_MS = 10_000;
const LOOK_MS = 50;
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
  const deadline = performance.now() + APPEARS_MS;
  while (performance.now() < deadline) {
    if (await isThere(run, dataset)) return true;
    await sleep(LOOK_MS);
  }
  return false;
}

async function isThere(run: RunCommand, dataset: string): Promise<boolean> {
  // zvol_id takes a device's own name alone.
  const device = await told(() => run('readlink', ['-e', devicePath(dataset)]));
  if (!device) return false;
  for (const program of ZVOL_ID) {
    const name = await told(() => run(program, [device]));
    if (name !== undefined) return name === dataset;
  }
  // Nobody can be asked.
  return true;
}

/** What a program says in a line, '' where it fails; undefined where there is no such program. */
async function told(ask: () => Promise<string>): Promise<string | undefined> {
  try {
    return (await ask()).trim();
  } catch (error) {
    if (!(error instanceof ZfsError)) throw error;
    return error.kind === 'missing' ? undefined : '';
  }
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
