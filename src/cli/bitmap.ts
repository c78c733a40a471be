// SPDX-License-Identifier: Apache-2.0
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { ControlClient } from '../control/client.ts';
import type { WireBitmap } from '../control/protocol.ts';
import { parseSize } from '../target/size.ts';
import { UsageError } from './exit_code.ts';
import { printResult } from './output.ts';
import { type Column, formatTable, printable } from './table.ts';
import { formatBytes } from './units.ts';
import { addDaemonOptions, type DaemonOptions, VBD_ARGUMENT, withDaemon } from './with_daemon.ts';

const NAME_ARGUMENT = 'of the bitmap';

const COLUMNS: Column<WireBitmap>[] = [
  { title: 'BITMAP', value: ({ name }) => name },
  { title: 'STATE', value: ({ state }) => state },
  {
    title: 'GRANULARITY',
    right: true,
    value: ({ granularity }) => (granularity === 0 ? '-' : formatBytes(granularity)),
  },
  { title: 'CHANGED', right: true, value: ({ dirtyBytes }) => formatBytes(dirtyBytes) },
  { title: 'EXPORTED', value: ({ exported }) => (exported ? 'yes' : 'no') },
];

export function addBitmap(program: Command): void {
  const command = program
    .command('bitmap')
    .description('keep book of what is written to a disk, for incremental backups')
    .addHelpText(
      'after',
      '\nA bitmap is complete from when it is added for as long as its target stays open, over\n' +
        'a restart of the daemon, too. When the disk is detached, as in a reboot of its guest,\n' +
        'or the host is started anew, all counts as changed.\n\n' +
        'Example: a whole backup, then one of what has changed since\n' +
        '  ringdisk bitmap add 3/xvda monday\n' +
        '  ringdisk export add 3/xvda --read-only --name backup   # and copy all of it\n' +
        '  ...\n' +
        '  ringdisk bitmap add 3/xvda tuesday && ringdisk bitmap disable 3/xvda monday\n' +
        '  ringdisk export add 3/xvda --read-only --name backup --bitmap monday\n' +
        "  nbdinfo --map=qemu:dirty-bitmap:monday 'nbd+unix:///backup?socket=...'",
    );
  addAdd(command);
  addList(command);
  addChange(command, 'enable', 'mark what is written from now on', 'bitmapEnable');
  addChange(command, 'disable', 'mark nothing more in it', 'bitmapDisable');
  addChange(command, 'clear', 'begin again, with nothing marked', 'bitmapClear');
  addMerge(command);
  addRemove(command);
  addDump(command);
}

interface AddOptions extends DaemonOptions {
  granularity?: number;
  disabled?: boolean;
}

function addAdd(parent: Command): void {
  const command = parent
    .command('add')
    .description('mark what is written from now on, by the guest and by NBD clients')
    .argument('<vbd>', VBD_ARGUMENT)
    .argument('<name>', NAME_ARGUMENT)
    .option(
      '--granularity <size>',
      'a power of two from 4K to 64M (default: 64K, or more for a disk above 4T)',
      parseBytes,
    )
    .option('--disabled', 'mark nothing yet');
  addDaemonOptions(command).action(async (vbd: string, name: string, options: AddOptions) => {
    const { granularity, disabled } = options;
    const request = { vbd, name, granularity, disabled };
    const result = await withDaemon(options, (client) => client.call('bitmapAdd', request));
    printResult('bitmap add', options, result, () => formatList([result.bitmap]));
  });
}

function addList(parent: Command): void {
  const command = parent
    .command('list')
    .description('list the bitmaps of a disk')
    .argument('<vbd>', VBD_ARGUMENT);
  addDaemonOptions(command).action(async (vbd: string, options: DaemonOptions) => {
    const result = await withDaemon(options, (client) => client.call('bitmapList', { vbd }));
    printResult('bitmap list', options, result, () => formatList(result.bitmaps));
  });
}

function formatList(bitmaps: WireBitmap[]): string {
  if (bitmaps.length === 0) return 'It has no bitmaps.';
  const errors = bitmaps
    .filter(({ error }) => error !== undefined)
    .map(({ name, error }) => printable(`${name}: ${error}`));
  return [formatTable(COLUMNS, bitmaps), ...errors].join('\n');
}

function addChange(
  parent: Command,
  verb: string,
  description: string,
  method: 'bitmapEnable' | 'bitmapDisable' | 'bitmapClear',
): void {
  const command = parent
    .command(verb)
    .description(description)
    .argument('<vbd>', VBD_ARGUMENT)
    .argument('<name>', NAME_ARGUMENT);
  addDaemonOptions(command).action(async (vbd: string, name: string, options: DaemonOptions) => {
    const result = await withDaemon(options, (client) => client.call(method, { vbd, name }));
    printResult(`bitmap ${verb}`, options, result, () => formatList([result.bitmap]));
  });
}

function addMerge(parent: Command): void {
  const command = parent
    .command('merge')
    .description('mark in a bitmap what is marked in another, too')
    .argument('<vbd>', VBD_ARGUMENT)
    .argument('<into>', 'the bitmap that gets more')
    .argument('<from>', 'the other one, of the same granularity');
  addDaemonOptions(command).action(
    async (vbd: string, name: string, from: string, options: DaemonOptions) => {
      const request = { vbd, name, from };
      const result = await withDaemon(options, (client) => client.call('bitmapMerge', request));
      printResult('bitmap merge', options, result, () => formatList([result.bitmap]));
    },
  );
}

function addRemove(parent: Command): void {
  const command = parent
    .command('remove')
    .description('forget a bitmap')
    .argument('<vbd>', VBD_ARGUMENT)
    .argument('<name>', NAME_ARGUMENT);
  addDaemonOptions(command).action(async (vbd: string, name: string, options: DaemonOptions) => {
    const result = await withDaemon(options, (client) =>
      client.call('bitmapRemove', { vbd, name }),
    );
    printResult('bitmap remove', options, result, () => `${name} is removed.`);
  });
}

interface DumpOptions extends DaemonOptions {
  format?: string;
}

interface DirtyExtent {
  offset: number;
  length: number;
}

function addDump(parent: Command): void {
  const command = parent
    .command('dump')
    .description('print what has changed')
    .argument('<vbd>', VBD_ARGUMENT)
    .argument('<name>', NAME_ARGUMENT)
    .addOption(
      new Option(
        '--format <format>',
        'extents, or raw: one bit for each chunk, the lowest of the first byte first',
      )
        .choices(['extents', 'raw'])
        .default('extents'),
    )
    .addHelpText(
      'after',
      '\nWhat is written meanwhile may be told or not: disable the bitmap before, and add\n' +
        'another one that goes on.',
    );
  addDaemonOptions(command).action(dump);
}

const EXTENT_COLUMNS: Column<DirtyExtent>[] = [
  { title: 'OFFSET', right: true, value: ({ offset }) => String(offset) },
  { title: 'LENGTH', right: true, value: ({ length }) => String(length) },
];

async function dump(vbd: string, name: string, options: DumpOptions): Promise<void> {
  if (options.format === 'raw') {
    if (options.json) throw new UsageError('--format raw prints bits, and no JSON.');
    await withDaemon(options, (client) => dumpRaw(client, vbd, name));
    return;
  }
  const result = await withDaemon(options, (client) => readExtents(client, vbd, name));
  printResult('bitmap dump', options, result, () => {
    if (result.extents.length === 0) return 'Nothing has changed.';
    return formatTable(EXTENT_COLUMNS, result.extents);
  });
}

async function readExtents(client: ControlClient, vbd: string, name: string) {
  const extents: DirtyExtent[] = [];
  for (let from = 0; ; ) {
    const part = await client.call('bitmapExtents', { vbd, name, from });
    for (const extent of part.extents) {
      const last = extents.at(-1);
      if (last && last.offset + last.length === extent.offset) last.length += extent.length;
      else extents.push(extent);
    }
    if (part.next === undefined) return { bitmap: part.bitmap, size: part.size, extents };
    from = part.next;
  }
}

async function dumpRaw(client: ControlClient, vbd: string, name: string): Promise<void> {
  for (let from: number | undefined = 0; from !== undefined; ) {
    const part: { bits: string; next?: number | undefined } = await client.call('bitmapBits', {
      vbd,
      name,
      from,
    });
    process.stdout.write(Buffer.from(part.bits, 'base64'));
    from = part.next;
  }
}

function parseBytes(text: string): number {
  const bytes = parseSize(text);
  if (bytes === undefined) throw new InvalidArgumentError('It is no size such as 64K.');
  return bytes;
}
