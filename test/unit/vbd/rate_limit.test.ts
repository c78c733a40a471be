// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { LimitedLog, RateLimit } from '../../../src/vbd/rate_limit.ts';

test('lets a burst through, then the rate', () => {
  let now = 0;
  const limit = new RateLimit(10, 3, () => now);
  expect([limit.take(), limit.take(), limit.take(), limit.take()]).toEqual([
    true,
    true,
    true,
    false,
  ]);
  expect(limit.delayMs()).toBe(100);
  now = 100;
  expect(limit.delayMs()).toBe(0);
  expect([limit.take(), limit.take()]).toEqual([true, false]);
  now = 10_000;
  expect([1, 2, 3, 4].map(() => limit.take())).toEqual([true, true, true, false]);
});

test('whatever the times: never more than the burst and the rate allow', () => {
  const steps = fc.array(fc.integer({ min: 0, max: 500 }), { maxLength: 200 });
  fc.assert(
    fc.property(steps, (gaps) => {
      let now = 0;
      const limit = new RateLimit(5, 4, () => now);
      let taken = 0;
      for (const gap of gaps) {
        now += gap;
        if (limit.take()) taken++;
      }
      expect(taken).toBeLessThanOrEqual(4 + (now / 1000) * 5 + 1e-6);
    }),
  );
});

test('a line that passes says how many did not', () => {
  let now = 0;
  const lines: { level: number; msg: string; suppressed?: number }[] = [];
  const log = new LimitedLog(
    pino({}, { write: (line) => lines.push(JSON.parse(line)) }),
    new RateLimit(1, 1, () => now),
  );
  log.info({ a: 1 }, 'first');
  log.warn({}, 'second');
  log.error({}, 'third');
  now = 1000;
  log.error({ b: 2 }, 'fourth');
  expect(lines).toHaveLength(2);
  expect(lines[0]).toMatchObject({ level: 30, msg: 'first', a: 1 });
  expect(lines[1]).toMatchObject({ level: 50, msg: 'fourth', b: 2, suppressed: 2 });
});
