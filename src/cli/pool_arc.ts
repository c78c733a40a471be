// SPDX-License-Identifier: Apache-2.0
import { type Command, InvalidArgumentError } from 'commander';
import type { WireArc } from '../volume/arc.ts';
import { UsageError } from './exit_code.ts';
import { printResult } from './output.ts';
import { formatFields } from './table.ts';
import { addManagerOptions, type ManagerOptions, withManager } from './with_manager.ts';

interface ArcOptions extends ManagerOptions {
  set?: number | 'suggested';
  unset?: boolean;
}

const HELP = `
ZFS keeps what was read in this host's memory, most of which it takes where nobody says otherwise;
guests have their own. The limit is one for all pools. It holds at once, and for the next start of
ZFS's module by a file in /etc/modprobe.d.

Example:
  ringdisk pool arc
  ringdisk pool arc --set suggested`;

export function addArc(parent: Command): void {
  const command = parent
    .command('arc')
    .description("show or set how much memory ZFS's cache (ARC) may have")
    .option('--set <MiB>', 'a number, or "suggested"', parseLimit)
    .option('--unset', 'take back what was set')
    .addHelpText('after', HELP);
  addManagerOptions(command).action(async (options: ArcOptions) => {
    const { set, unset } = options;
    if (set !== undefined && unset)
      throw new UsageError('--set and --unset contradict each other.');
    const result = await withManager(options, async (client) => {
      const now = await client.call('arc', {});
      if (set === undefined && !unset) return now;
      const mib = set === 'suggested' ? now.arc.suggestedMib : set;
      return client.call('setArc', { mib });
    });
    printResult('pool arc', options, result, () => formatArc(result.arc));
  });
}

function parseLimit(text: string): number | 'suggested' {
  if (text === 'suggested') return text;
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('It is no number of MiB, nor "suggested".');
}

function formatArc({ memoryMib, suggestedMib, loaded, kept, warnings }: WireArc): string {
  const now = loaded
    ? `${loaded.sizeMib} MiB, ${loaded.limitMib} MiB at most`
    : "ZFS's module is not loaded";
  const fields = formatFields([
    ['memory', `${memoryMib} MiB`],
    ['cache', now],
    ['kept', kept ? `${kept.limitMib} MiB, in ${kept.file}` : 'nothing by ringdisk'],
    ['suggested', `${suggestedMib} MiB`],
  ]);
  return [fields, ...warnings.map((text) => `! ${text}`)].join('\n');
}
