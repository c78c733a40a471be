// SPDX-License-Identifier: Apache-2.0
import { createRequire } from 'node:module';

/** Of package.json; found by the package's own name, wherever this code was bundled to. */
export function packageVersion(): string {
  const { version } = createRequire(import.meta.url)('ringdisk/package.json');
  return version;
}
