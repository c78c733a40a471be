// SPDX-License-Identifier: Apache-2.0
// A bitmap's content, some of it at a time.
import { native } from '../datapath/binding.ts';
import type { Found } from './bitmap_files.ts';

const EXTENTS_MOST = 1000;
const RUNS_MOST = 4096;
const RAW_BYTES_MOST = 32 * 1024;
const WORD_BYTES = 8;

/** Bytes. */
export interface DirtyExtent {
  readonly offset: number;
  readonly length: number;
}

export interface Extents {
  readonly extents: readonly DirtyExtent[];
  /** Where to go on; none: this was all. */
  readonly next?: number;
}

/** What has changed from `from` on. Of one that has missed something, that is all. */
export function dirtyExtents(file: string, found: Found, bytes: number, from: number): Extents {
  if (hasMissed(found)) {
    return { extents: from < bytes ? [{ offset: from, length: bytes - from }] : [] };
  }
  const extents: DirtyExtent[] = [];
  let at = from;
  for (const [length, isDirty] of native.bitmapRuns(file, from, bytes, RUNS_MOST)) {
    const last = extents.at(-1);
    if (isDirty && last && last.offset + last.length === at) {
      extents[extents.length - 1] = { offset: last.offset, length: last.length + length };
    } else if (isDirty) {
      if (extents.length === EXTENTS_MOST) break;
      extents.push({ offset: at, length });
    }
    at += length;
  }
  return at < bytes ? { extents, next: at } : { extents };
}

export interface RawBits {
  /** The first chunk's bit is the lowest of the first byte. */
  readonly bits: Buffer;
  readonly next?: number;
}

/** From byte `from` of the bits on, a multiple of 8. */
export function rawBits(file: string, found: Found, bytes: number, from: number): RawBits {
  const granularity = 'problem' in found ? bytes : found.granularity;
  const size = Math.ceil(Math.ceil(bytes / granularity) / 8);
  const end = Math.min(size, from + RAW_BYTES_MOST);
  const bits = Buffer.alloc(Math.max(0, end - from), hasMissed(found) ? 0xff : 0);
  if (!hasMissed(found) && !('problem' in found)) {
    const words = Math.ceil(bits.length / WORD_BYTES);
    Buffer.from(native.bitmapWords(file, from / WORD_BYTES, words)).copy(bits);
    const known = found.covered < bytes ? Math.floor(found.covered / granularity) : Infinity;
    setFrom(bits, known - from * 8);
  }
  clearBehind(bits, Math.ceil(bytes / granularity) - from * 8);
  return end < size ? { bits, next: end } : { bits };
}

export function hasMissed(found: Found): boolean {
  return 'problem' in found || found.state === 'inconsistent';
}

function setFrom(bits: Buffer, first: number): void {
  for (let bit = Math.max(0, first); bit < bits.length * 8; bit++) {
    const index = bit >> 3;
    bits[index] = (bits[index] ?? 0) | (1 << (bit & 7));
  }
}

function clearBehind(bits: Buffer, end: number): void {
  for (let bit = Math.max(0, end); bit < bits.length * 8; bit++) {
    const index = bit >> 3;
    bits[index] = (bits[index] ?? 0) & ~(1 << (bit & 7));
  }
}
