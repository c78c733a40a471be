// SPDX-License-Identifier: Apache-2.0
import { expect, it } from 'vitest';
import { Undo } from '../../../src/cli/undo.ts';

it('runs every step in reverse, also after a failure, and tells the first failure', async () => {
  const undo = new Undo();
  const seen: number[] = [];
  for (const step of [1, 2, 3]) {
    undo.add(async () => {
      seen.push(step);
      if (step > 1) throw new Error(`step ${step}`);
    });
  }
  await expect(undo.run()).rejects.toThrow('step 3');
  expect(seen).toEqual([3, 2, 1]);
  await undo.run();
});
