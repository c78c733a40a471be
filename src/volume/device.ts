// SPDX-License-Identifier: Apache-2.0
// A volume's block device: /dev/zvol/..., a link that udev makes a moment after ZFS has the zvol.
import { constants } from 'node:fs';
import { access, open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { ManagerError } from './manager_types.ts';

const APPEARS_MS = 10_000;
const LOOK_MS = 20;

/** Whether it has come in time. */
export async function deviceAppears(device: string): Promise<boolean> {
  const deadline = performance.now() + APPEARS_MS;
  while (performance.now() < deadline) {
    if (await isThere(device)) return true;
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

/** Throws VOLUME_BUSY while a program has it for itself: ringdisk, a file system, dm, LVM. */
export async function refuseOpen(device: string, doing: string): Promise<void> {
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
