// SPDX-License-Identifier: Apache-2.0
// Changed blocks as backup programs read them: 64 KiB a bit, the first the highest of its byte, in
// whole words of four bytes, since some read it by those and give up at an end within one.
import type { ChangedBlocks } from '../volume/manager_types.ts';

/** It is not told to those who read the bitmap, so there is no other. */
export const GRANULARITY = 65536;
const WORD_BYTES = 4;

/** Of `length` bytes from byte `offset` on; a negative length: up to the end. */
export function changedBitmap(
  { granularity, bitmap }: ChangedBlocks,
  offset: number,
  length: number,
): { granularity: 65536; bitmap: string } {
  if (granularity !== GRANULARITY) throw new RangeError(`a bit for ${granularity} bytes`);
  const blocks = bitmap.length * 8;
  const from = Math.min(Math.max(Math.floor(offset / granularity), 0), blocks);
  const end = length < 0 ? blocks : Math.ceil((offset + length) / granularity);
  const to = Math.max(Math.min(end, blocks), from);
  const bits = from === 0 && to === blocks ? bitmap : cut(bitmap, from, to);
  const padded = Buffer.alloc(Math.ceil(bits.length / WORD_BYTES) * WORD_BYTES);
  bits.copy(padded);
  return { granularity, bitmap: padded.toString('base64') };
}

function cut(bitmap: Buffer, from: number, to: number): Buffer {
  const result = Buffer.alloc(Math.ceil((to - from) / 8));
  for (let block = from; block < to; block++) {
    const isChanged = ((bitmap[block >> 3] ?? 0) >> (7 - (block & 7))) & 1;
    const place = block - from;
    result[place >> 3] = (result[place >> 3] ?? 0) | (isChanged << (7 - (place & 7)));
  }
  return result;
}
