// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { nextTime, parseSchedule } from '../../../src/replication/schedule.ts';

const local = (text: string) => new Date(text).getTime();
const next = (text: string, after: string) => nextTime(parseSchedule(text), local(after));

describe('a schedule', () => {
  it.each([
    ['every 15m', '2026-11-30T10:00:10', '2026-11-30T10:15:10'],
    ['every 2d', '2026-11-30T10:00:00', '2026-12-02T10:00:00'],
    ['30 2 * * *', '2026-11-30T10:00:00', '2026-12-01T02:30:00'],
    ['*/5 * * * *', '2026-11-30T10:00:00', '2026-11-30T10:05:00'],
    ['0 4 * * 7', '2026-11-30T10:00:00', '2026-12-06T04:00:00'],
    ['@daily', '2026-11-30T10:00:00', '2026-12-01T00:00:00'],
  ])('%s after %s is %s', (text, after, expected) => {
    expect(next(text, after)).toBe(local(expected));
  });

  it.each([
    '',
    'soon',
    'every day',
    'every 0m',
    'every 90000d',
    '* * * * * *',
    '61 * * * *',
    '0 0 30 2 *',
    '2026-12-01T00:00:00',
  ])('%j is none', (text) => {
    expect(() => parseSchedule(text)).toThrow(/is no schedule/);
  });
});
