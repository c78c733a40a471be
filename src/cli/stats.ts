// SPDX-License-Identifier: Apache-2.0
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import type { ControlClient } from '../control/client.ts';
import type { Stats, WireCounters, WireLatency } from '../control/protocol.ts';
import { UsageError } from './exit_code.ts';
import { fillName } from './fill.ts';
import { formatLatencyRows, growth, latencyRows, mapLatency, withPercentiles } from './latency.ts';
import { limitLines } from './limit.ts';
import { mirrorName } from './mirror.ts';
import { printResult } from './output.ts';
import { type Column, formatTable } from './table.ts';
import { formatBytes, formatCount } from './units.ts';
import { waitLines } from './waits.ts';
import { addDaemonOptions, type DaemonOptions, withDaemon } from './with_daemon.ts';

interface StatsOptions extends DaemonOptions {
  /** Seconds as given; true: without a value. */
  watch?: string | true;
}

/** The counters and latencies of a VBD, or what they grew by: counters per second. */
export interface StatsRow {
  name: string;
  counters: WireCounters;
  latency?: WireLatency | undefined;
  /** How long it took to grow by that. */
  seconds?: number;
}

const COLUMNS: Column<StatsRow>[] = [
  { title: 'VBD', value: (row) => row.name },
  count('READS', (counters) => counters.reads),
  count('WRITES', (counters) => counters.writes),
  bytes('READ', (counters) => counters.readBytes),
  bytes('WRITTEN', (counters) => counters.writeBytes),
  count('FLUSHES', (counters) => counters.flushes + counters.barriers),
  count('DISCARDS', (counters) => counters.discards),
  count('ERRORS', (counters) => counters.ioErrors),
  count('REJECTED', (counters) => counters.rejected + counters.unsupported),
  count('NOTIFIED', (counters) => counters.notificationsSent),
  average('PER POLL', (counters) => counters.taken / counters.takeBatches),
  average('PER ANSWER', (counters) => counters.answered / counters.batches),
  count('IN FLIGHT', (counters) => counters.inFlight),
  count('MAPPED', (counters) => counters.mappedPages),
];

const GAUGES: (keyof WireCounters)[] = [
  'inFlight',
  'mappedPages',
  'bounceBytes',
  'brokenQueues',
  'waitingForTokens',
];
const WATCH_SECONDS_MIN = 0.1;
const WATCH_SECONDS_MAX = 3600;
const CLEAR_SCREEN = '\u001b[H\u001b[2J';

const HELP = `
A latency runs from when a request is first seen in the ring until its answer is shown. PER POLL and
PER ANSWER are how many requests a batch has, DEPTH how many are in flight on average.

Example:
  ringdisk stats
  ringdisk stats --watch 5`;

export function addStats(program: Command): void {
  const command = program
    .command('stats')
    .description("show the disks' counters and latencies since they connected")
    .option('--watch [seconds]', 'show what they grow by per second, until Ctrl-C (default: 1)')
    .addHelpText('after', HELP);
  addDaemonOptions(command).action(stats);
}

async function stats(options: StatsOptions): Promise<void> {
  const seconds = options.watch === undefined ? undefined : watchSeconds(options.watch);
  await withDaemon(options, async (client) => {
    if (seconds !== undefined) return watch(client, seconds, options);
    const result = await client.call('stats', {});
    printResult('stats', options, { ...result, vbds: result.vbds.map(forPrograms) }, () =>
      formatStats(result.vbds, result),
    );
  });
}

function watchSeconds(given: string | true): number {
  const seconds = given === true ? 1 : Number(given);
  if (seconds >= WATCH_SECONDS_MIN && seconds <= WATCH_SECONDS_MAX) return seconds;
  throw new UsageError(
    `--watch takes seconds from ${WATCH_SECONDS_MIN} to ${WATCH_SECONDS_MAX}, not "${given}".`,
  );
}

async function watch(
  client: ControlClient,
  seconds: number,
  options: StatsOptions,
): Promise<never> {
  const redraw = process.stdout.isTTY === true && !options.json;
  let before = await client.call('stats', {});
  for (;;) {
    await sleep(seconds * 1000);
    const now = await client.call('stats', {});
    const rows = ratesBetween(before, now);
    if (redraw) process.stdout.write(CLEAR_SCREEN);
    const vbds = now.vbds.map(forPrograms);
    printResult('stats', options, { ...now, vbds, perSecond: rows.map(forPrograms) }, () =>
      formatStats(rows, now),
    );
    before = now;
  }
}

/** With percentiles in the latencies. */
function forPrograms<T extends { latency?: WireLatency | undefined }>(vbd: T): object {
  return { ...vbd, ...(vbd.latency && { latency: mapLatency(vbd.latency, withPercentiles) }) };
}

/** Per second, for each VBD of `now`; gauges as they are. A new connection counts from zero. */
export function ratesBetween(before: Stats, now: Stats): StatsRow[] {
  const seconds = (now.monotonicMs - before.monotonicMs) / 1000;
  const previous = new Map(before.vbds.map((vbd) => [vbd.name, vbd]));
  return now.vbds.map(({ name, counters, latency }) => {
    const last = previous.get(name);
    const old = last?.counters;
    const rate = (key: keyof WireCounters): number => {
      if (GAUGES.includes(key)) return counters[key];
      const since = old && old[key] <= counters[key] ? old[key] : 0;
      return (counters[key] - since) / seconds;
    };
    const keys = Object.keys(counters) as (keyof WireCounters)[];
    const rates = Object.fromEntries(keys.map((key) => [key, rate(key)])) as WireCounters;
    const grown =
      latency &&
      mapLatency(latency, (histogram, operation) => growth(last?.latency?.[operation], histogram));
    return { name, counters: rates, latency: grown, seconds };
  });
}

function formatStats(rows: StatsRow[], { engine, vbds }: Stats): string {
  const mapped = `${engine.mappedPages} guest pages mapped, ${engine.boundPorts} ports bound`;
  const jobs = vbds.flatMap(({ name, fill, mirror }) => [
    ...(fill && fill.state !== 'full' ? [`${name}: ${fillName(fill)}`] : []),
    ...(mirror ? [`${name}: ${mirrorName(mirror)}`] : []),
  ]);
  const host = [...waitLines(vbds), ...jobs, ...limitLines(vbds), mapped].join('\n');
  if (rows.length === 0) return `No connected disks; ${host}.`;
  const latencies = formatLatencyRows(
    rows.flatMap(({ name, latency, seconds }) =>
      latency ? latencyRows(name, latency, seconds) : [],
    ),
  );
  return [formatTable(COLUMNS, rows), ...(latencies ? [latencies] : []), host].join('\n\n');
}

function count(title: string, of: (counters: WireCounters) => number): Column<StatsRow> {
  return { title, right: true, value: (row) => formatCount(of(row.counters)) };
}

function average(title: string, of: (counters: WireCounters) => number): Column<StatsRow> {
  return { title, right: true, value: (row) => (of(row.counters) || 0).toFixed(1) };
}

function bytes(title: string, of: (counters: WireCounters) => number): Column<StatsRow> {
  return { title, right: true, value: (row) => formatBytes(Math.round(of(row.counters))) };
}
