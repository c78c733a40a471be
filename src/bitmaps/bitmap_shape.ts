// SPDX-License-Identifier: Apache-2.0
import { RingdiskError, showValue } from '../errors.ts';

const KIB = 1024;
export const GRANULARITY_MIN = 4 * KIB;
export const GRANULARITY_MAX = 64 * KIB * KIB;
const GRANULARITY_USUAL = 64 * KIB;
/** As native/base/bitmap.h has it. */
const CHUNKS_MAX = 2 ** 26;

/** In names of files and of NBD contexts, and on command lines. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

/** Throws BITMAP_INVALID. */
export function checkName(name: string): void {
  if (NAME.test(name)) return;
  throw invalid(
    `The name ${showValue(name)} is not of 1 to 64 letters, digits, dots, dashes and ` +
      'underscores, with a letter or a digit first.',
  );
}

/** Of a disk of so many bytes: what is asked for, or 64 KiB or as much more as it must be. */
export function granularityFor(bytes: number, asked?: number): number {
  let usual = GRANULARITY_USUAL;
  while (bytes / usual > CHUNKS_MAX) usual *= 2;
  if (asked === undefined) return usual;
  const isPower = Number.isInteger(asked) && Number.isInteger(Math.log2(asked));
  if (!isPower || asked < GRANULARITY_MIN || asked > GRANULARITY_MAX) {
    throw invalid(`The granularity ${asked} is not a power of two from 4 KiB to 64 MiB.`);
  }
  if (bytes / asked > CHUNKS_MAX) {
    throw invalid(
      `The granularity ${asked} is too small for a disk of ${bytes} bytes: a bitmap has ` +
        `${CHUNKS_MAX} bits at most.`,
    );
  }
  return asked;
}

/** Whether a bitmap of a disk that has grown may stay as fine as it was. */
export function mayKeep(bytes: number, granularity: number): boolean {
  return bytes / granularity <= CHUNKS_MAX;
}

function invalid(message: string): RingdiskError {
  return new RingdiskError('BITMAP_INVALID', message);
}
