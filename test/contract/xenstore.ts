// SPDX-License-Identifier: Apache-2.0
import { describe, it } from 'vitest';
import type { XenstoreClient } from '../../src/xenstore/client.ts';
import { runXenstoreCase, xenstoreCases } from './xenstore_cases.ts';

/** The suite that every XenstoreClient passes. `connect` makes privileged clients of one store. */
export function xenstoreContract(name: string, connect: () => Promise<XenstoreClient>): void {
  describe(name, () => {
    for (const testCase of xenstoreCases) {
      it(testCase.name, () => runXenstoreCase(connect, '/tool/ringdisk-test', testCase));
    }
  });
}
