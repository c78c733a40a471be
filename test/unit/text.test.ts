// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeText, encodeText, showText, textBytes } from '../../src/text.ts';

describe('text of bytes', () => {
  it.each([
    ['2f64e96ae0', '/d\udce9j\udce0'],
    ['c3a4', 'ä'],
    ['c3', '\udcc3'],
    ['c328', '\udcc3('],
    ['f09f9880ff', '😀\udcff'],
    ['edb280', '\udced\udcb2\udc80'],
    ['c080', '\udcc0\udc80'],
    ['', ''],
  ])('%s', (hex, text) => {
    const bytes = Buffer.from(hex, 'hex');
    expect(decodeText(bytes)).toBe(text);
    expect(encodeText(text).toString('hex')).toBe(hex);
    expect(textBytes(text)).toBe(bytes.length);
  });

  it('comes back as it was, whatever the bytes are', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (array) => {
        const bytes = Buffer.from(array);
        expect(encodeText(decodeText(bytes)).equals(bytes)).toBe(true);
      }),
    );
  });

  it('is what UTF-8 says where it is UTF-8', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(decodeText(Buffer.from(text))).toBe(Buffer.from(text).toString());
        expect(encodeText(text).equals(Buffer.from(text))).toBe(true);
      }),
    );
  });

  it('is shown escaped', () => {
    expect(showText('/srv/d\udce9j\udce0.img')).toBe('/srv/d\\xe9j\\xe0.img');
  });
});
