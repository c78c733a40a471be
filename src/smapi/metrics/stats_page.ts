// SPDX-License-Identifier: Apache-2.0
// A queue's stats page, as native/metrics/stats_page.h has it: read, while the data path writes, by
// somebody whom neither the data path nor the daemon hears of.
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import * as v from 'valibot';

/** Since the queue was connected. Bytes; nanoseconds, from seen in the ring to answered. */
export interface Totals {
  readonly reads: number;
  readonly writes: number;
  readonly readBytes: number;
  readonly writeBytes: number;
  readonly discardBytes: number;
  readonly errors: number;
  readonly readNs: number;
  readonly writeNs: number;
}

export interface Page {
  /** Another one means that it counts from 0 again. */
  readonly inode: number;
  readonly totals: Totals;
  /** Requests, at this moment. */
  readonly inFlight: number;
}

const INDEX_BYTES = 4096;
/** With the counters. */
const HEAD_BYTES = 2 * INDEX_BYTES;
const WORD_BYTES = 8;
/** A histogram's words behind its buckets: how many, their sum, the least, the most. */
const SUM = 1;

const offset = v.pipe(v.number(), v.integer(), v.minValue(INDEX_BYTES), v.multipleOf(WORD_BYTES));
const indexSchema = v.object({
  version: v.literal(1),
  counters: v.object({
    reads: offset,
    writes: offset,
    readBytes: offset,
    writeBytes: offset,
    discardBytes: offset,
    ioErrors: offset,
    inFlight: offset,
  }),
  latency: v.object({ read: offset, write: offset }),
  buckets: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65536)),
});

/** Throws where it cannot be read, or is of another version. */
export function readStatsPage(file: string): Page {
  const fd = openSync(file, 'r');
  try {
    const { ino } = fstatSync(fd);
    const head = Buffer.alloc(HEAD_BYTES);
    const length = readSync(fd, head, 0, HEAD_BYTES, 0);
    const { counters, latency, buckets } = readIndex(head, file);
    const word = (at: number) => {
      // Few lie farther away, and what lies between is long.
      return at + WORD_BYTES <= length ? Number(head.readBigUInt64LE(at)) : readWord(fd, at);
    };
    const sumOf = (histogram: number) => word(histogram + (buckets + SUM) * WORD_BYTES);
    const totals = {
      reads: word(counters.reads),
      writes: word(counters.writes),
      readBytes: word(counters.readBytes),
      writeBytes: word(counters.writeBytes),
      discardBytes: word(counters.discardBytes),
      errors: word(counters.ioErrors),
      readNs: sumOf(latency.read),
      writeNs: sumOf(latency.write),
    };
    return { inode: ino, totals, inFlight: word(counters.inFlight) };
  } finally {
    closeSync(fd);
  }
}

function readIndex(head: Buffer, file: string): v.InferOutput<typeof indexSchema> {
  const [line = ''] = head.toString('latin1', 0, INDEX_BYTES).split('\n', 1);
  const found = v.safeParse(indexSchema, parse(line));
  if (found.success) return found.output;
  throw new Error(`${file} is no stats page that can be read: ${found.issues[0].message}`);
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** In the host's order, which is little-endian where there is Xen. */
function readWord(fd: number, at: number): number {
  const word = Buffer.alloc(WORD_BYTES);
  if (readSync(fd, word, 0, WORD_BYTES, at) < WORD_BYTES) throw new Error('it ends too early');
  return Number(word.readBigUInt64LE());
}
