// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  formatLimits,
  LIMIT_WORDS,
  type Limits,
  type LimitWord,
  mergeLimits,
  parseLimitChange,
  parseLimits,
} from '../../../src/target/limits.ts';
import { parseTarget } from '../../../src/target/target_spec.ts';

describe('limits as words', () => {
  test.each([
    ['', {}],
    ['iops=2000', { iops: 2000 }],
    ['bps=100M,burst-bytes=1g', { bps: 100 * 1024 ** 2, burstBytes: 1024 ** 3 }],
    ['read-iops=1,write-iops=100000000', { readIops: 1, writeIops: 100_000_000 }],
    ['read-bps=4096,write-bps=1T', { readBps: 4096, writeBps: 1024 ** 4 }],
    ['iops=5,iops=6', { iops: 6 }],
    ['group=Web.1', { group: 'web.1' }],
    ['group=web,burst=5', { group: 'web', burst: 5 }],
    ['weight=1000,group=web', { group: 'web', weight: 1000 }],
  ])('%j', (text, limits) => {
    expect(parseLimits(text)).toEqual(limits);
  });

  test.each([
    ['iops', 'iops is a number from 1 to 100000000, not ""'],
    ['iops=0', 'iops is a number from 1 to 100000000, not "0"'],
    ['iops=-1', 'iops is a number from 1 to 100000000, not "-1"'],
    ['iops=1e3', 'iops is a number from 1 to 100000000, not "1e3"'],
    ['iops=2K', 'iops is a number from 1 to 100000000, not "2K"'],
    ['iops=100000001', 'iops is a number from 1 to 100000000, not "100000001"'],
    ['bps=4095', 'bps is a size from 4K to 1T, such as 100M, not "4095"'],
    ['bps=2T', 'bps is a size from 4K to 1T, such as 100M, not "2T"'],
    ['bps=9999999999999999T', 'bps is a size from 4K to 1T, such as 100M, not "9999999999999999T"'],
    ['iops=5,', '"" is none of iops, '],
    ['weight=3', 'weight needs a group'],
    ['weight=0,group=a', 'weight is a number from 1 to 1000, not "0"'],
    ['weight=1001,group=a', 'weight is a number from 1 to 1000, not "1001"'],
    ['share=3', '"share" is none of iops, '],
    ['__proto__=3', '"__proto__" is none of iops, '],
    ['constructor=3', '"constructor" is none of iops, '],
    ['group=-a', 'group is a name of at most 64 letters'],
    [`group=${'a'.repeat(65)}`, 'group is a name of at most 64 letters'],
    ['burst=5', 'burst needs a limit of iops'],
    ['burst=5,bps=1M', 'burst needs a limit of iops'],
    ['burst-bytes=1M,iops=5', 'burst-bytes needs a limit of bps'],
  ])('%j is refused', (text, reason) => {
    expect(parseLimits(text)).toEqual(expect.stringContaining(reason));
  });

  test('what is formatted is parsed again, whatever it is', () => {
    const words = Object.keys(LIMIT_WORDS) as LimitWord[];
    const figures = fc.record(
      Object.fromEntries(
        words.map((word) => [LIMIT_WORDS[word].key, fc.integer({ min: 4096, max: 1e8 })]),
      ),
      { requiredKeys: ['iops', 'bps'] },
    );
    fc.assert(
      fc.property(figures, (limits) => {
        expect(parseLimits(formatLimits(limits as Limits))).toEqual(limits);
      }),
    );
    fc.assert(
      fc.property(fc.string(), (text) => {
        const parsed = parseLimits(text);
        if (typeof parsed === 'object') expect(parseLimits(formatLimits(parsed))).toEqual(parsed);
      }),
    );
  });

  test('a change keeps what it does not name, and 0 takes away', () => {
    expect(parseLimitChange('iops=0,bps=1M')).toEqual({ iops: 0, bps: 1024 ** 2 });
    expect(parseLimitChange('group=0')).toEqual({ group: '0' });
    expect(parseLimitChange('iops=00')).toEqual(expect.any(String));
    const before = { iops: 5, readBps: 4096 };
    expect(mergeLimits(before, { iops: 0, bps: 1024 ** 2 })).toEqual({
      readBps: 4096,
      bps: 1024 ** 2,
    });
  });
});

describe('limits before a target', () => {
  test('in any order, and as many as there are', () => {
    const all = Object.keys(LIMIT_WORDS).map((word) => `${word}=4096:`);
    const { limits } = parseTarget(
      `aio:${all.join('')}group=A:on-error=stop:share:nvme:/dev/ng0n1`,
    );
    expect(Object.keys(limits ?? {})).toHaveLength(all.length + 1);
    expect(limits?.group).toBe('a');
    expect(parseTarget('iops=1:null:1G')).toEqual({
      kind: 'null',
      path: String(1024 ** 3),
      limits: { iops: 1 },
    });
    expect(parseTarget('/dev/a').limits).toBeUndefined();
    expect(parseTarget('/srv/iops=1:x').path).toBe('/srv/iops=1:x');
  });

  test.each([
    ['iops=0:/a', 'asks for "iops=0"; iops is a number'],
    ['bps=1:/a', 'asks for "bps=1"; bps is a size'],
    ['group=:/a', 'asks for "group="; group is a name'],
    ['burst=1:/a', 'burst needs a limit of iops'],
    ['iops:/a', 'starts with "iops", which is none of'],
  ])('%j is refused with a sentence', (params, reason) => {
    expect(() => parseTarget(params)).toThrow(reason);
  });
});
