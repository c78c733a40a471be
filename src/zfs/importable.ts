// SPDX-License-Identifier: Apache-2.0
// What `zpool import` says without a pool. Pure.
import { parseSections, splitPools } from './sections.ts';

export interface Importable {
  pool: string;
  guid: string;
  state: string;
  status?: string;
  action?: string;
}

export function parseImportable(text: string): Importable[] {
  return splitPools(text).map((lines) => {
    const { texts } = parseSections(lines);
    const status = texts.get('status');
    const action = texts.get('action');
    return {
      pool: texts.get('pool') ?? '',
      guid: texts.get('id') ?? '',
      state: texts.get('state') ?? '',
      ...(status && { status }),
      ...(action && { action }),
    };
  });
}
