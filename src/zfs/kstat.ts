// SPDX-License-Identifier: Apache-2.0
// What the kernel tells of pools without asking them: no lock is taken, so this answers also while
// `zpool` hangs.
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';

export const KSTAT_FOLDER = '/proc/spl/kstat/zfs';

/** ZFS's word for each imported pool, by name. Undefined: ZFS's module is not loaded. */
export async function poolStates(
  folder: string = KSTAT_FOLDER,
): Promise<Map<string, string> | undefined> {
  let names: string[];
  try {
    const entries = await readdir(folder, { withFileTypes: true });
    names = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  } catch {
    return undefined;
  }
  const states = new Map<string, string>();
  for (const name of names) {
    // One that is exported meanwhile has none any more.
    const state = await readFile(path.join(folder, name, 'state'), 'utf8').catch(() => undefined);
    if (state !== undefined) states.set(name, state.trim());
  }
  return states;
}
