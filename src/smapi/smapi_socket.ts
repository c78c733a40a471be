// SPDX-License-Identifier: Apache-2.0
import path from 'node:path';

/** Where the executables find the manager with this runtime directory. */
export function smapiSocketPath(runtimeDir: string): string {
  return path.join(runtimeDir, 'smapi.sock');
}
