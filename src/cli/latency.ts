// SPDX-License-Identifier: Apache-2.0
// Latency histograms as people and programs read them.
import type { WireHistogram, WireLatency } from '../control/protocol.ts';
import { type Column, formatTable } from './table.ts';
import { formatCount, formatLatency } from './units.ts';

type Operation = keyof WireLatency;

/** A histogram with what is asked of it most, in microseconds; 0 where nothing is counted. */
export interface Latency extends WireHistogram {
  meanUs: number;
  p50Us: number;
  p99Us: number;
  p999Us: number;
}

export interface LatencyRow extends Latency {
  name: string;
  operation: Operation;
  /** In flight on average; undefined: since connect, which nobody knows the time of. */
  depth: number | undefined;
}

const COLUMNS: Column<LatencyRow>[] = [
  { title: 'VBD', value: ({ name }) => name },
  { title: 'LATENCY', value: ({ operation }) => operation },
  { title: 'COUNT', right: true, value: ({ count }) => formatCount(count) },
  time('MEAN', ({ meanUs }) => meanUs),
  time('P50', ({ p50Us }) => p50Us),
  time('P99', ({ p99Us }) => p99Us),
  time('P99.9', ({ p999Us }) => p999Us),
  time('MAX', ({ maxUs }) => maxUs),
];

const DEPTH: Column<LatencyRow> = {
  title: 'DEPTH',
  right: true,
  value: ({ depth }) => (depth ?? 0).toFixed(1),
};

/** The smallest latency that at least `fraction` of those counted do not exceed; microseconds. */
export function percentileUs({ count, maxUs, buckets }: WireHistogram, fraction: number): number {
  const wanted = Math.max(1, Math.ceil(fraction * count));
  let seen = 0;
  for (const [upToUs, amount] of buckets) {
    seen += amount;
    if (seen >= wanted) return Math.min(upToUs, maxUs);
  }
  return maxUs;
}

export function withPercentiles(histogram: WireHistogram): Latency {
  return {
    ...histogram,
    meanUs: histogram.count > 0 ? histogram.sumUs / histogram.count : 0,
    p50Us: percentileUs(histogram, 0.5),
    p99Us: percentileUs(histogram, 0.99),
    p999Us: percentileUs(histogram, 0.999),
  };
}

/** What `now` counts more than `before`; all of it where `before` is of another connection. */
export function growth(before: WireHistogram | undefined, now: WireHistogram): WireHistogram {
  if (!before || before.count > now.count) return now;
  const old = new Map(before.buckets);
  const buckets = now.buckets
    .map(([upToUs, count]): [number, number] => [upToUs, count - (old.get(upToUs) ?? 0)])
    .filter(([, count]) => count > 0);
  return {
    count: buckets.reduce((sum, [, count]) => sum + count, 0),
    sumUs: now.sumUs - before.sumUs,
    // The longest of all may lie before.
    maxUs: Math.min(now.maxUs, buckets.at(-1)?.[0] ?? 0),
    buckets,
  };
}

/** `change` applied to each operation's histogram. */
export function mapLatency<T>(
  latency: WireLatency,
  change: (histogram: WireHistogram, operation: Operation) => T,
): Record<Operation, T> {
  const entries = Object.entries(latency) as [Operation, WireHistogram][];
  return Object.fromEntries(
    entries.map(([operation, histogram]) => [operation, change(histogram, operation)]),
  ) as Record<Operation, T>;
}

/** One row for each operation that occurred. `seconds`: how long it took to count that much. */
export function latencyRows(name: string, latency: WireLatency, seconds?: number): LatencyRow[] {
  const rows = mapLatency(latency, (histogram, operation) => ({
    ...withPercentiles(histogram),
    name,
    operation,
    // Little's law: requests in flight = arrivals per second x seconds each stays.
    depth: seconds && histogram.sumUs / 1e6 / seconds,
  }));
  return Object.values(rows).filter(({ count }) => count > 0);
}

export function formatLatencyRows(rows: LatencyRow[]): string {
  if (rows.length === 0) return '';
  const timed = rows.some(({ depth }) => depth !== undefined);
  return formatTable(timed ? [...COLUMNS, DEPTH] : COLUMNS, rows);
}

function time(title: string, of: (row: LatencyRow) => number): Column<LatencyRow> {
  return { title, right: true, value: (row) => formatLatency(of(row)) };
}
