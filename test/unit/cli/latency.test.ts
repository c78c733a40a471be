// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { formatLatencyRows, growth, latencyRows, percentileUs } from '../../../src/cli/latency.ts';
import type { WireHistogram, WireLatency } from '../../../src/control/protocol.ts';

function histogram(...buckets: [number, number][]): WireHistogram {
  return {
    count: buckets.reduce((sum, [, count]) => sum + count, 0),
    sumUs: buckets.reduce((sum, [us, count]) => sum + us * count, 0),
    maxUs: buckets.at(-1)?.[0] ?? 0,
    buckets,
  };
}

function latency(given: Partial<WireLatency>): WireLatency {
  const none = histogram();
  const operations = { read: none, write: none, barrier: none, flush: none, discard: none };
  return { ...operations, tokens: none, ...given };
}

describe('percentileUs', () => {
  it('is the end of the bucket that reaches the fraction, and never beyond the longest', () => {
    const some = { ...histogram([10, 90], [100, 9], [1000, 1]), maxUs: 990 };
    expect([0, 0.5, 0.9, 0.91, 0.99, 0.999].map((part) => percentileUs(some, part))).toEqual([
      10, 10, 10, 100, 100, 990,
    ]);
  });

  it('is 0 where nothing is counted', () => {
    expect(percentileUs(histogram(), 0.99)).toBe(0);
  });
});

describe('growth', () => {
  it('is what was counted in between', () => {
    const grown = growth(histogram([10, 5], [500, 1]), histogram([10, 9], [20, 2], [500, 1]));
    expect(grown).toEqual({
      count: 6,
      sumUs: 80,
      maxUs: 20,
      buckets: [
        [10, 4],
        [20, 2],
      ],
    });
  });

  it('is all of it for a connection that is new', () => {
    const now = histogram([10, 1]);
    expect(growth(undefined, now)).toEqual(now);
    expect(growth(histogram([10, 2]), now)).toEqual(now);
  });
});

describe('latencyRows', () => {
  it('has the operations that occurred, and how many were in flight on average', () => {
    const rows = latencyRows('a', latency({ read: histogram([1000, 4000]) }), 2);
    expect(rows).toMatchObject([{ operation: 'read', count: 4000, meanUs: 1000, depth: 2 }]);
    expect(formatLatencyRows(rows)).toMatch(/DEPTH\na +read +4,000 +1\.0 ms .* 2\.0$/);
  });

  it('knows no depth without a time', () => {
    const rows = latencyRows('a', latency({ flush: histogram([1, 1]) }));
    expect(formatLatencyRows(rows)).not.toContain('DEPTH');
    expect(formatLatencyRows([])).toBe('');
  });
});
