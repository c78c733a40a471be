// SPDX-License-Identifier: Apache-2.0
// Two streams joined, and what is read before that happens.
import type { Duplex, Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';

/** How long one direction goes on when the other has ended. */
const HALF_OPEN_MS = 30_000;

/** Exactly so many bytes; what follows stays where it is. Rejects when the stream ends before. */
export function readExactly(stream: Readable, bytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const events = ['readable', 'end', 'close', 'error'];
    // Listening for "readable" anew while too few bytes are there would tell of them for ever.
    const look = () => {
      const read: Buffer | null = stream.read(bytes);
      const isWhole = read?.length === bytes;
      // At its end read() gives less.
      if (!isWhole && !read && !stream.destroyed && !stream.readableEnded) return;
      for (const event of events) stream.off(event, look);
      if (isWhole) resolve(read);
      else reject(new Error('the connection ended'));
    };
    for (const event of events) stream.on(event, look);
    look();
  });
}

/**
 * Both ways, byte by byte; each side is read as fast as the other one takes it. Resolves when both
 * ways have ended, or rejects; neither stream is open then.
 */
export async function relay(left: Duplex, right: Duplex): Promise<void> {
  const ways = [pipeline(left, right), pipeline(right, left)];
  const over = new AbortController();
  try {
    await Promise.race(ways);
    const late = sleep(HALF_OPEN_MS, undefined, { signal: over.signal }).catch(() => {});
    await Promise.race([Promise.all(ways), late]);
  } finally {
    over.abort();
    left.destroy();
    right.destroy();
    await Promise.allSettled(ways);
  }
}
