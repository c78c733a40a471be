// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatKeep, type Keep, parseKeep, surplus } from '../../../src/replication/keep.ts';

const at = (text: string) => ({ created: Date.parse(`${text}Z`) / 1000, text });
const kept = (keep: Keep, ...texts: string[]) => {
  const all = texts.map(at);
  const gone = surplus(all, keep);
  return all.filter((one) => !gone.includes(one)).map(({ text }) => text);
};

describe('what is kept', () => {
  it('is read from words, and told by them', () => {
    expect(parseKeep('last=4,daily=7')).toEqual({ last: 4, daily: 7 });
    expect(parseKeep('all')).toEqual({});
    expect(formatKeep(parseKeep('daily=7, last=1'))).toBe('last=1,daily=7');
    for (const text of ['', '7', 'daily', 'daily=0', 'daily=-1', 'fortnightly=1', 'last=99999']) {
      expect(() => parseKeep(text)).toThrow(/does not say what is kept/);
    }
  });

  it('is all where no rule says otherwise', () => {
    expect(kept({}, '2026-01-01T00:00', '2026-01-02T00:00')).toHaveLength(2);
  });

  it('is the newest of each period that has one, back from the newest', () => {
    const days = ['2026-03-01T01:00', '2026-03-01T23:00', '2026-03-04T05:00', '2026-03-04T06:00'];
    expect(kept({ daily: 1 }, ...days)).toEqual(['2026-03-04T06:00']);
    expect(kept({ daily: 2 }, ...days)).toEqual(['2026-03-01T23:00', '2026-03-04T06:00']);
    expect(kept({ last: 2 }, ...days)).toEqual(['2026-03-04T05:00', '2026-03-04T06:00']);
    expect(kept({ last: 1, hourly: 3 }, ...days)).toEqual(days.slice(1));
  });

  it('has weeks that begin on Mondays, and months and years as the calendar has them', () => {
    const sundayAndMonday = ['2026-11-29T23:59', '2026-11-30T00:00'];
    expect(kept({ weekly: 2 }, ...sundayAndMonday)).toEqual(sundayAndMonday);
    expect(kept({ weekly: 2 }, '2026-11-23T00:00', '2026-11-29T23:59')).toHaveLength(1);
    const ends = ['2025-12-31T23:59', '2026-01-01T00:00', '2026-01-31T00:00'];
    expect(kept({ monthly: 2 }, ...ends)).toEqual([ends[0], ends[2]]);
    expect(kept({ yearly: 2 }, ...ends)).toEqual([ends[0], ends[2]]);
  });

  it('has the newest in it, is no more than the rules say, and stays so', () => {
    const rule = fc.option(fc.integer({ min: 1, max: 5 }), { nil: undefined });
    const keeps = fc.record({ last: rule, hourly: rule, daily: rule, weekly: rule, monthly: rule });
    const times = fc.array(fc.integer({ min: 0, max: 4e7 }), { minLength: 1, maxLength: 60 });
    fc.assert(
      fc.property(keeps, times, (wish, list) => {
        const keep = JSON.parse(JSON.stringify(wish)) as Keep;
        const all = list.map((created) => ({ created }));
        const gone = new Set(surplus(all, keep));
        const left = all.filter((one) => !gone.has(one));
        const most = Object.values(keep).reduce((sum, count) => sum + count, 0);
        expect(Math.max(...left.map(({ created }) => created))).toBe(Math.max(...list));
        if (most > 0) expect(left.length).toBeLessThanOrEqual(most);
        expect(surplus(left, keep)).toEqual([]);
      }),
    );
  });
});
