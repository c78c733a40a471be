// SPDX-License-Identifier: Apache-2.0
import { renameSync, rmSync, writeFileSync } from 'node:fs';

/** Of what replaceFile() leaves where its process dies. */
export const TEMPORARY_SUFFIX = '.new';

/** As a whole: whoever dies here leaves the old one or the new one. For our eyes only (0600). */
export function replaceFile(file: string, text: string): void {
  try {
    writeFileSync(file + TEMPORARY_SUFFIX, text, { mode: 0o600 });
    renameSync(file + TEMPORARY_SUFFIX, file);
  } catch (error) {
    // There may be no room for it: nothing half-written stays.
    rmSync(file + TEMPORARY_SUFFIX, { force: true });
    throw error;
  }
}
