// SPDX-License-Identifier: Apache-2.0
// A guest's disk written all over while something happens to it, and looked at afterwards.
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { MIB, workload } from './loopback_machine.ts';
import type { RestartGuest } from './restart_machine.ts';

export const DISK_BYTES = 64 * MIB;

/** Small writes over the whole disk, each block of it once. */
export function fill(seed: number) {
  return workload('write', { blockBytes: 4096, depth: 32, length: DISK_BYTES, seed });
}

/** Every block is as the last write of it, so none was lost, and none came late. */
export async function expectFilled({ frontend }: RestartGuest, seed: number): Promise<void> {
  const length = DISK_BYTES;
  const verified = await frontend.run(workload('verify', { length, seed }));
  expect(verified).toMatchObject({ errors: 0, mismatches: 0, bytes: length });
}

/** Does something again and again for as long as `load` is under way; says how often. */
export async function during(load: Promise<unknown>, act: () => Promise<unknown>): Promise<number> {
  let isOver = false;
  void load.finally(() => {
    isOver = true;
  });
  let count = 0;
  while (!isOver) {
    await sleep(20 + 130 * Math.random());
    await act();
    count++;
  }
  return count;
}
