// SPDX-License-Identifier: Apache-2.0
import { expect, test } from 'vitest';
import { changedBitmap, GRANULARITY } from '../../../src/smapi/changed_blocks.ts';

function bits(bytes: number[], offset = 0, length = -1): string {
  const found = { granularity: GRANULARITY, bitmap: Buffer.from(bytes) };
  return Buffer.from(changedBitmap(found, offset, length).bitmap, 'base64').toString('hex');
}

test('all of them, padded to words of four bytes', () => {
  expect(bits([])).toBe('');
  expect(bits([0x80])).toBe('80000000');
  expect(bits([1, 2, 3, 4, 5])).toBe('0102030405000000');
});

test('a part begins with its own first bit, and touches no others', () => {
  expect(bits([0b0001_0000], 3 * GRANULARITY, GRANULARITY)).toBe('80000000');
  expect(bits([0xff, 0xff], 4 * GRANULARITY + 1, 1)).toBe('80000000');
  expect(bits([0xff, 0xff], 12 * GRANULARITY, 100 * GRANULARITY)).toBe('f0000000');
  expect(bits([0xff], 8 * GRANULARITY, 1)).toBe('');
});
