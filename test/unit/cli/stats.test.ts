// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { ratesBetween } from '../../../src/cli/stats.ts';
import type { Stats, WireCounters } from '../../../src/control/protocol.ts';
import { someCounters } from '../../support/counters.ts';

function stats(monotonicMs: number, vbds: Record<string, Partial<WireCounters>>): Stats {
  return {
    monotonicMs,
    vbds: Object.entries(vbds).map(([name, counters]) => ({
      name,
      counters: someCounters(counters),
    })),
    engine: { mappedPages: 0, boundPorts: 0, reactors: [] },
  };
}

describe('ratesBetween', () => {
  it('divides what counters grew by, and leaves gauges alone', () => {
    const before = stats(1000, { 'vbd3/1/51712': { reads: 100, inFlight: 9 } });
    const now = stats(3000, { 'vbd3/1/51712': { reads: 300, inFlight: 7 } });
    const [row] = ratesBetween(before, now);
    expect(row?.counters).toMatchObject({ reads: 100, inFlight: 7, writes: 0 });
  });

  it('counts from zero for a VBD that is new or connected anew', () => {
    const before = stats(0, { a: { writes: 1000 } });
    const now = stats(1000, { a: { writes: 10 }, b: { writes: 20 } });
    expect(ratesBetween(before, now).map((row) => row.counters.writes)).toEqual([10, 20]);
  });
});
