// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';

/** Of package.json. src/ and dist/ both lie one level below it. */
export function packageVersion(): string {
  const file = new URL('../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
