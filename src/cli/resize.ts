// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import { printResult } from './output.ts';
import { formatBytes } from './units.ts';
import { addDaemonOptions, type DaemonOptions, VBD_ARGUMENT, withDaemon } from './with_daemon.ts';

export function addResize(program: Command): void {
  const command = program
    .command('resize')
    .description("read the target's new size and tell the guest; grow the target first")
    .argument('<vbd>', VBD_ARGUMENT)
    .addHelpText('after', '\nExample:\n  lvextend -L +10G /dev/vg/disk && ringdisk resize 3/xvda');
  addDaemonOptions(command).action(resize);
}

async function resize(vbd: string, options: DaemonOptions): Promise<void> {
  const result = await withDaemon(options, (client) => client.call('resize', { vbd }));
  printResult('resize', options, result, () => {
    const { before, after } = result;
    if (before === after) return `${vbd} is ${formatBytes(after)}, as before.`;
    return `${vbd} grew from ${formatBytes(before)} to ${formatBytes(after)}.`;
  });
}
