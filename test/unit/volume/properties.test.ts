// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkKey, readName } from '../../../src/volume/names.ts';
import {
  decodeRecord,
  decodeText,
  encodeRecord,
  encodeText,
} from '../../../src/volume/properties.ts';

describe('a value of a property', () => {
  it('holds any text, in one line that ZFS does not take for none', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (text) => {
        const value = encodeText(text);
        expect(value).not.toMatch(/[\p{Cc}]/u);
        expect(['', '-']).not.toContain(value);
        expect(decodeText(value)).toBe(text);
      }),
    );
    expect(encodeText('Grüße')).toBe('Grüße');
  });

  it('holds records', () => {
    const record = { 'a\tb': '100 %\n', '': '-' };
    expect(decodeRecord(encodeRecord(record), 'x')).toEqual(record);
    expect(decodeRecord(undefined, 'x')).toEqual({});
  });

  it('that cannot be read is not taken for an empty one', () => {
    expect(() => decodeRecord('{', 'tank/a')).toThrow(/tank\/a holds "\{"/);
    expect(() => decodeRecord('[]', 'tank/a')).toThrow(/no JSON/);
  });

  it('is no longer than ZFS takes', () => {
    expect(() => encodeText('x'.repeat(8192))).toThrow(/longer than 8191/);
    expect(() => encodeText('\ud800')).toThrow(/is no text/);
  });
});

describe('a name in ZFS', () => {
  it.each([
    ['tank/ringdisk', 'store', ''],
    ['tank/ringdisk/reserve:', 'reserve', ''],
    ['tank/ringdisk/vm1', 'volume', 'vm1'],
    ['tank/ringdisk/vm1:new', 'new', 'vm1'],
    ['tank/ringdisk/3f:old', 'old', '3f'],
    ['tank/ringdisk/vm1@3f', 'snapshot', '3f'],
    ['tank/ringdisk/vm1@3f:base', 'base', '3f'],
    ['tank/ringdisk/vm1#3f', 'bookmark', '3f'],
    ['tank/ringdisk/a/b', 'other', 'a/b'],
  ])('%s is %s %j', (dataset, role, key) => {
    expect(readName('tank', dataset)).toMatchObject({ role, key });
  });

  it('of a key has nothing that ZFS or we mean something by', () => {
    for (const key of ['', '-a', '.', 'a/b', 'a@b', 'a#b', 'a:old', 'a b', 'é', 'x'.repeat(101)]) {
      expect(() => checkKey(key)).toThrow(/cannot be a key/);
    }
    expect(checkKey('vm-1.root_2')).toBe('vm-1.root_2');
  });
});
