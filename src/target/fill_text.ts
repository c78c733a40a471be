// SPDX-License-Identifier: Apache-2.0
// What stands behind "fill:" in a target: options, the disk, "::" and its source. Each option ends
// with a colon, as everywhere in a target.
import { showValue, TargetSpecError } from '../errors.ts';
import { parseRate } from './rate.ts';
import { parseSize } from './size.ts';

export interface FillText {
  /** A target of its own, unread. */
  readonly local: string;
  readonly source: string;
  /** undefined: beside the disk. */
  readonly map: string | undefined;
  /** Bytes. */
  readonly chunkBytes: number;
  /** Bytes a second; 0: as fast as it goes. */
  readonly rate: number;
}

const SEPARATOR = '::';
const OPTION = /^(chunk|rate|map)=([^:]*):/;
const CHUNK_BYTES = 64 * 1024;
const CHUNK_BYTES_MIN = 16 * 1024;
const CHUNK_BYTES_MAX = 2 * 1024 ** 2;

/** Throws TargetSpecError. */
export function readFillText(text: string): FillText {
  const options: { map?: string; chunkBytes?: number; rate?: number } = {};
  let rest = text;
  for (let match = OPTION.exec(rest); match; match = OPTION.exec(rest)) {
    const [whole, name, value = ''] = match;
    if (name === 'map') options.map = toMap(value);
    else if (name === 'chunk') options.chunkBytes = toChunkBytes(value);
    else options.rate = parseRate(value);
    rest = rest.slice(whole.length);
  }
  const at = rest.indexOf(SEPARATOR);
  const local = rest.slice(0, Math.max(at, 0));
  const source = rest.slice(at + SEPARATOR.length);
  if (at <= 0 || source === '') {
    throw new TargetSpecError(
      `The fill ${showValue(text)} does not name a disk and its source; ` +
        'write fill:/srv/disk.img::/mnt/elsewhere/image.raw.',
    );
  }
  const { map, chunkBytes = CHUNK_BYTES, rate = 0 } = options;
  return { local, source, map, chunkBytes, rate };
}

function toMap(text: string): string {
  if (text.startsWith('/')) return text;
  throw new TargetSpecError(
    `The map ${showValue(text)} of a fill is not an absolute path to a file.`,
  );
}

function toChunkBytes(text: string): number {
  const bytes = parseSize(text) ?? Number.NaN;
  const isPowerOfTwo = Number.isInteger(Math.log2(bytes));
  if (isPowerOfTwo && bytes >= CHUNK_BYTES_MIN && bytes <= CHUNK_BYTES_MAX) return bytes;
  throw new TargetSpecError(
    `The chunk ${showValue(text)} of a fill is not a power of two from 16K to 2M.`,
  );
}
