// SPDX-License-Identifier: Apache-2.0
// One daemon at a time. The lock is on a file, which only root can open, and the kernel takes it
// back when the process ends, however it ends: nothing can be stale, and there is no release.
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { native } from '../datapath/binding.ts';
import { ControlError } from './errors.ts';

/** A process that was killed has it until the kernel is done with what it held. */
const PATIENCE_MS = 3000;
const RETRY_MS = 10;

/** One daemon per runtime directory: the sockets, records and journals in it are its own. */
export function lockRuntimeDir(runtimeDir: string): Promise<void> {
  return lock(
    path.join(runtimeDir, 'lock'),
    `on ${runtimeDir}`,
    'its own directory (--runtime-dir)',
  );
}

/** One daemon per backend kind of a host, whatever its directory: they would share the disks. */
export async function lockKinds(folder: string, kinds: readonly string[]): Promise<void> {
  for (const kind of kinds) {
    const file = path.join(folder, `ringdisk-${kind}.lock`);
    await lock(file, `for disks of the kind ${kind}`, 'another kind (--backend)');
  }
}

/** Throws ControlError EEXIST while another process has it. */
async function lock(file: string, what: string, otherwise: string): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!native.lockFile(file)) {
    if (performance.now() > deadline) {
      throw new ControlError(
        'EEXIST',
        `another ringdisk daemon is running ${what}: stop it first, or give this one ${otherwise}`,
      );
    }
    await sleep(RETRY_MS);
  }
}
