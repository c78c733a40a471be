// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { LineSplitter } from '../../../src/control/framing.ts';

describe('LineSplitter', () => {
  it('joins what arrives in pieces, also within one character', () => {
    const lines = new LineSplitter(100);
    const bytes = Buffer.from('{"a":"µ"}\n{"b":1}\n{"c"');
    const seen: string[] = [];
    for (const byte of bytes) seen.push(...lines.push(Buffer.of(byte)));
    expect(seen).toEqual(['{"a":"µ"}', '{"b":1}']);
  });

  it('gives all lines of one chunk', () => {
    expect(new LineSplitter(100).push(Buffer.from('a\n\nb\n'))).toEqual(['a', '', 'b']);
  });

  it('takes a line of just the bound and refuses one byte more', () => {
    expect(new LineSplitter(3).push(Buffer.from('abc\n'))).toEqual(['abc']);
    const lines = new LineSplitter(3);
    lines.push(Buffer.from('ab'));
    expect(() => lines.push(Buffer.from('cd'))).toThrow(RangeError);
  });
});
