// SPDX-License-Identifier: Apache-2.0
import { Transform } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';

/** Lets so many bytes a second through, or all; tells `onBytes` of each piece. */
export function limiter(rate: number | undefined, onBytes?: (bytes: number) => void): Transform {
  let due = performance.now();
  return new Transform({
    async transform(chunk: Buffer, _, done) {
      if (rate !== undefined) {
        due = Math.max(due, performance.now()) + (chunk.length / rate) * 1000;
        await sleep(due - performance.now());
      }
      onBytes?.(chunk.length);
      done(null, chunk);
    },
  });
}
