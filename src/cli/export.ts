// SPDX-License-Identifier: Apache-2.0
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { Command } from 'commander';
import type { WireExport } from '../control/protocol.ts';
import { UsageError } from './exit_code.ts';
import { addLimitOptions, formatLimits, limitLines, limitWords } from './limit.ts';
import { printResult } from './output.ts';
import { collect } from './repeated.ts';
import { type Column, formatTable, printable } from './table.ts';
import { formatBytes } from './units.ts';
import { addDaemonOptions, type DaemonOptions, withDaemon } from './with_daemon.ts';

interface AddOptions extends DaemonOptions {
  socket?: string;
  name?: string;
  readOnly?: boolean;
  allowWriters?: boolean;
  handOver?: boolean;
  bitmap?: string[];
  detectZeroes?: boolean;
  group?: string;
  limit?: string;
}

interface LimitOptions extends DaemonOptions, Partial<Record<string, string | boolean>> {
  runtimeDir: string;
  json?: boolean;
  off?: boolean;
}

const COLUMNS: Column<WireExport>[] = [
  { title: 'EXPORT', value: ({ name }) => name },
  { title: 'STATE', value: ({ state }) => state },
  { title: 'MODE', value: ({ readOnly }) => (readOnly ? 'r' : 'w') },
  {
    title: 'SIZE',
    right: true,
    value: ({ size }) => (size === undefined ? '-' : formatBytes(size)),
  },
  { title: 'CLIENTS', right: true, value: ({ clients }) => String(clients) },
  { title: 'SOURCE', value: ({ source }) => source },
  { title: 'URI', value: ({ uri }) => uri },
];

export function addExport(program: Command): void {
  const command = program
    .command('export')
    .description('let NBD clients of this host use disks and targets');
  addAdd(command);
  addList(command);
  addLimit(command);
  addRemove(command);
}

function addAdd(parent: Command): void {
  const command = parent
    .command('add')
    .description('export a disk that is attached, or a target')
    .argument('<source>', 'a disk (3/xvda), or a target (/dev/vg/lv, /srv/disk.img, null:1G)')
    .option(
      '--socket <path>',
      'of the UNIX socket (default: one of its own below /run/ringdisk/nbd)',
    )
    .option('--name <name>', "by which clients ask for it (default: after the source's)")
    .option('--read-only', 'clients may not write')
    .option('--allow-writers', 'clients may write to a disk that its guest writes to')
    .option(
      '--hand-over',
      'end when the clients that wrote have disconnected; a guest whose disk is on the same ' +
        'target connects after that',
    )
    .option(
      '--bitmap <name>',
      'a dirty bitmap of the disk that clients can read; may be given several times',
      collect,
    )
    .option('--detect-zeroes', 'tell clients of zeroes on a device, by reading what they ask about')
    .option('--group <group>', 'whose members may use the socket, which has to be named then')
    .option('--limit <limits>', 'what its clients may ask a second together: iops=2000,bps=100M')
    .addHelpText(
      'after',
      '\nAn export of a disk ends with it. Exports outlive the daemon: after a restart their\n' +
        'clients connect again.\n\n' +
        'Example: back a disk up while its guest runs\n' +
        '  ringdisk export add 3/xvda --read-only --name backup\n' +
        "  nbdcopy 'nbd+unix:///backup?socket=/run/ringdisk/nbd/backup.sock' /backup/disk.img\n" +
        '  ringdisk export remove backup',
    );
  addDaemonOptions(command).action(add);
}

async function add(source: string, options: AddOptions): Promise<void> {
  const { socket, name, readOnly, allowWriters, handOver, detectZeroes } = options;
  if (options.group !== undefined && socket === undefined) {
    throw new UsageError(
      '--group needs --socket: the folder of the others is closed to all groups',
    );
  }
  const group = options.group === undefined ? undefined : await groupNumber(options.group);
  const clients = { readOnly, allowWriters, handOver, bitmaps: options.bitmap, detectZeroes };
  const request = { source, socket, name, group, ...clients, limits: options.limit };
  const result = await withDaemon(options, (client) => client.call('exportAdd', request));
  printResult('export add', options, result, () => printable(result.export.uri));
}

/** Asked here: a directory service may take its time, and the daemon never waits for one. */
async function groupNumber(group: string): Promise<number> {
  if (/^\d{1,10}$/.test(group)) return Number(group);
  const entry = await promisify(execFile)('getent', ['group', '--', group]).catch(() => undefined);
  const number = entry?.stdout.split(':')[2];
  if (number === undefined) throw new UsageError(`there is no group ${JSON.stringify(group)}`);
  return Number(number);
}

function addList(parent: Command): void {
  const command = parent.command('list').description('list what is exported');
  addDaemonOptions(command).action(async (options: DaemonOptions) => {
    const result = await withDaemon(options, (client) => client.call('exportList', {}));
    printResult('export list', options, result, () => formatList(result.exports));
  });
}

function formatList(exports: WireExport[]): string {
  if (exports.length === 0) return 'Nothing is exported.';
  const errors = exports
    .filter(({ error }) => error !== undefined)
    .map(({ name, error }) => printable(`${name}: ${error}`));
  return [formatTable(COLUMNS, exports), ...limitLines(exports), ...errors].join('\n');
}

function addLimit(parent: Command): void {
  const command = parent
    .command('limit')
    .description('limit what all clients of an export together may ask a second')
    .argument('<name>', 'as the list has it');
  addLimitOptions(command)
    .option('--off', 'no limit holds')
    .addHelpText(
      'after',
      '\nIt holds at once, also for what waits already, and over restarts of the daemon.\n\n' +
        'Example:\n  ringdisk export limit backup --read-bps 50M',
    );
  addDaemonOptions(command).action(limit);
}

async function limit(name: string, options: LimitOptions): Promise<void> {
  const limits = limitWords(options);
  if (options.off ? limits !== '' : limits === '') {
    throw new UsageError('say what its clients may, such as --bps 50M, or --off alone');
  }
  const request = { name, ...(options.off ? { off: true } : { limits }) };
  const result = await withDaemon(options, (client) => client.call('exportLimit', request));
  printResult('export limit', options, result, () =>
    printable(`${name}: ${formatLimits(result.export.limits)}`),
  );
}

function addRemove(parent: Command): void {
  const command = parent
    .command('remove')
    .description('end an export, and the connections of its clients')
    .argument('<name>', 'as the list has it');
  addDaemonOptions(command).action(async (name: string, options: DaemonOptions) => {
    const result = await withDaemon(options, (client) => client.call('exportRemove', { name }));
    printResult('export remove', options, result, () => `${name} is no longer exported.`);
  });
}
