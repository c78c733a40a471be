// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { checkName, granularityFor } from '../../../src/bitmaps/bitmap_shape.ts';

const TIB = 2 ** 40;

describe('a granularity', () => {
  it('is 64 KiB, or as much more as the disk needs', () => {
    expect(granularityFor(1)).toBe(65536);
    expect(granularityFor(4 * TIB)).toBe(65536);
    expect(granularityFor(4 * TIB + 512)).toBe(131072);
    expect(granularityFor(1 << 30, 4096)).toBe(4096);
  });

  it.each([0, 2048, 5000, 2 ** 27, Number.NaN, 4096.5])('is not %s', (asked) => {
    expect(() => granularityFor(1 << 30, asked)).toThrow('power of two');
  });

  it('is not so small that there were too many bits', () => {
    expect(() => granularityFor(TIB, 4096)).toThrow('too small');
  });
});

describe('a name', () => {
  it.each(['a', '0', 'monday-2026.11_29', 'x'.repeat(64)])('is %s', (name) => {
    expect(() => checkName(name)).not.toThrow();
  });

  it.each(['', '.a', '-a', 'a/b', 'a b', 'ä', 'a\n', 'x'.repeat(65)])('is not "%s"', (name) => {
    expect(() => checkName(name)).toThrow('letters');
  });
});
