// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import type { WireCounters, WireLimits } from '../control/protocol.ts';
import { LIMIT_WORDS, type LimitWord } from '../target/limits.ts';
import { UsageError } from './exit_code.ts';
import { printResult } from './output.ts';
import { printable } from './table.ts';
import { formatBytes, formatCount } from './units.ts';
import { addDaemonOptions, type DaemonOptions, VBD_ARGUMENT, withDaemon } from './with_daemon.ts';

interface LimitOptions extends DaemonOptions, Partial<Record<string, string | boolean>> {
  runtimeDir: string;
  json?: boolean;
  group?: string;
  off?: boolean;
  reset?: boolean;
}

const HELP = `
It holds at once, also for what waits already, and over restarts of the daemon, until the disk is
detached. Without options it tells what holds. Flushes never wait, a discard counts as one
operation.

Example:
  ringdisk limit 3/xvda --iops 2000 --burst 10000
  ringdisk limit 3/xvda --group web --bps 200M && ringdisk limit 3/xvdb --group web
  ringdisk limit 3/xvda --read-iops 0`;

const NAMES: Record<LimitWord, string> = {
  iops: 'operations/s',
  'read-iops': 'reads/s',
  'write-iops': 'writes/s',
  bps: '/s',
  'read-bps': '/s read',
  'write-bps': '/s written',
  burst: 'operations at once',
  'burst-bytes': ' at once',
};

export function addLimit(program: Command): void {
  const command = program
    .command('limit')
    .description('limit what a disk, or several disks together, may ask a second')
    .argument('<vbd>', VBD_ARGUMENT);
  addLimitOptions(command)
    .option('--off', 'no limit holds, whatever the toolstack says')
    .option('--reset', 'what the toolstack says holds again')
    .addHelpText('after', HELP);
  addDaemonOptions(command).action(limit);
}

/** The figures; see limitWords(). */
export function addLimitOptions(command: Command): Command {
  return command
    .option('--iops <n>', 'operations a second; 0 takes the limit away')
    .option('--read-iops <n>', 'reads a second')
    .option('--write-iops <n>', 'writes and discards a second')
    .option('--bps <size>', 'bytes a second, such as 100M')
    .option('--read-bps <size>', 'bytes read a second')
    .option('--write-bps <size>', 'bytes written a second')
    .option('--burst <n>', 'operations that may go at once after a rest (default: 0.1 s of them)')
    .option('--burst-bytes <size>', 'the same in bytes')
    .option('--group <name>', 'the figures are those of a group: all of its disks share them')
    .option('--weight <n>', "of its group's, while others of it wait, too: 1 (default) to 1000");
}

async function limit(vbd: string, options: LimitOptions): Promise<void> {
  const { off, reset } = options;
  const limits = limitWords(options);
  if ([limits, off, reset].filter(Boolean).length > 1) {
    throw new UsageError('--off and --reset stand alone.');
  }
  const request = {
    vbd,
    ...(limits && { limits }),
    ...(off && { off }),
    ...(reset && { reset }),
  };
  const result = await withDaemon(options, (client) => client.call('limit', request));
  printResult('limit', options, result, () =>
    printable(`${result.vbd}: ${formatLimits(result.limits)}`),
  );
}

/** "iops=2000,group=web": the daemon checks what is said. */
export function limitWords(options: Partial<Record<string, unknown>>): string {
  const words = [...Object.keys(LIMIT_WORDS), 'group', 'weight'];
  const given = words.flatMap((word) => {
    const value = options[word.replaceAll(/-(.)/g, (_, letter: string) => letter.toUpperCase())];
    return typeof value === 'string' ? [`${word}=${value}`] : [];
  });
  const odd = given.find((text) => text.includes(','));
  if (odd !== undefined) throw new UsageError(`--${odd.replace('=', ' ')} has a comma in it.`);
  return given.join(',');
}

/** "2,000 operations/s, 100 MiB/s (an operator)" */
export function formatLimits(limits: WireLimits | undefined): string {
  if (!limits) return 'not limited';
  const figures = (Object.keys(LIMIT_WORDS) as LimitWord[]).flatMap((word) => {
    const { key, kind } = LIMIT_WORDS[word];
    const value = limits[key];
    if (value === undefined) return [];
    const amount = kind === 'bytes' ? formatBytes(value) : `${formatCount(value)} `;
    return [`${amount}${NAMES[word]}`];
  });
  const all = figures.length > 0 ? figures.join(', ') : 'no limit';
  return `${all}${groupOf(limits)}, by ${SOURCES[limits.from]}`;
}

const SOURCES: Record<WireLimits['from'], string> = {
  operator: 'an operator',
  xenstore: "the toolstack's node",
  target: "the target's options",
};

function groupOf({ group, weight, sharedWith = [] }: WireLimits): string {
  if (group === undefined) return '';
  const part = weight === undefined ? '' : `, weight ${weight}`;
  const others = sharedWith.length > 0 ? ` with ${sharedWith.join(', ')}` : '';
  return ` in group ${group}${others}${part}`;
}

interface Limited {
  name: string;
  limits?: WireLimits | undefined;
  limitsProblem?: string | undefined;
  counters?: Pick<WireCounters, 'waitingForTokens'> | undefined;
}

/** A line for each disk that is limited, and for each whose toolstack's word makes no sense. */
export function limitLines(vbds: readonly Limited[]): string[] {
  return vbds.flatMap(({ name, limits, limitsProblem, counters }) => {
    const waiting = counters?.waitingForTokens ?? 0;
    const wait = waiting > 0 ? `; ${formatCount(waiting)} requests wait for their turn` : '';
    return [
      ...(limits ? [printable(`${name}: limited to ${formatLimits(limits)}${wait}`)] : []),
      ...(limitsProblem
        ? [printable(`${name}: its limits stay as they are: ${limitsProblem}`)]
        : []),
    ];
  });
}
