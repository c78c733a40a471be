// SPDX-License-Identifier: Apache-2.0
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import type { ControlClient } from '../control/client.ts';
import type { Stats, WireCounters } from '../control/protocol.ts';
import { UsageError } from './exit_code.ts';
import { printResult } from './output.ts';
import { type Column, formatTable } from './table.ts';
import { formatBytes, formatCount } from './units.ts';
import { waitLines } from './waits.ts';
import { addDaemonOptions, type DaemonOptions, withDaemon } from './with_daemon.ts';

interface StatsOptions extends DaemonOptions {
  /** Seconds as given; true: without a value. */
  watch?: string | true;
}

/** One line: the counters of a VBD, or what they grew by per second. */
export interface StatsRow {
  name: string;
  counters: WireCounters;
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
  count('IN FLIGHT', (counters) => counters.inFlight),
  count('MAPPED', (counters) => counters.mappedPages),
];

const GAUGES: (keyof WireCounters)[] = ['inFlight', 'mappedPages', 'bounceBytes', 'brokenQueues'];
const WATCH_SECONDS_MIN = 0.1;
const WATCH_SECONDS_MAX = 3600;
const CLEAR_SCREEN = '\u001b[H\u001b[2J';

export function addStats(program: Command): void {
  const command = program
    .command('stats')
    .description("show the disks' counters since they connected")
    .option('--watch [seconds]', 'show what they grow by per second, until Ctrl-C (default: 1)')
    .addHelpText('after', '\nExample:\n  ringdisk stats\n  ringdisk stats --watch 5');
  addDaemonOptions(command).action(stats);
}

async function stats(options: StatsOptions): Promise<void> {
  const seconds = options.watch === undefined ? undefined : watchSeconds(options.watch);
  await withDaemon(options, async (client) => {
    if (seconds !== undefined) return watch(client, seconds, options);
    const result = await client.call('stats', {});
    printResult('stats', options, result, () => formatStats(result.vbds, result));
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
    printResult('stats', options, { ...now, perSecond: rows }, () => formatStats(rows, now));
    before = now;
  }
}

/** Per second, for each VBD of `now`; gauges as they are. A new connection counts from zero. */
export function ratesBetween(before: Stats, now: Stats): StatsRow[] {
  const seconds = (now.monotonicMs - before.monotonicMs) / 1000;
  const previous = new Map(before.vbds.map((vbd) => [vbd.name, vbd.counters]));
  return now.vbds.map(({ name, counters }) => {
    const old = previous.get(name);
    const rate = (key: keyof WireCounters): number => {
      if (GAUGES.includes(key)) return counters[key];
      const since = old && old[key] <= counters[key] ? old[key] : 0;
      return (counters[key] - since) / seconds;
    };
    const keys = Object.keys(counters) as (keyof WireCounters)[];
    const rates = Object.fromEntries(keys.map((key) => [key, rate(key)])) as WireCounters;
    return { name, counters: rates };
  });
}

function formatStats(rows: StatsRow[], { engine, vbds }: Stats): string {
  const mapped = `${engine.mappedPages} guest pages mapped, ${engine.boundPorts} ports bound`;
  const host = [...waitLines(vbds), mapped].join('\n');
  if (rows.length === 0) return `No connected disks; ${host}.`;
  return `${formatTable(COLUMNS, rows)}\n${host}`;
}

function count(title: string, of: (counters: WireCounters) => number): Column<StatsRow> {
  return { title, right: true, value: (row) => formatCount(of(row.counters)) };
}

function bytes(title: string, of: (counters: WireCounters) => number): Column<StatsRow> {
  return { title, right: true, value: (row) => formatBytes(Math.round(of(row.counters))) };
}
