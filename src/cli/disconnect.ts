// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import { printResult } from './output.ts';
import { addDaemonOptions, type DaemonOptions, VBD_ARGUMENT, withDaemon } from './with_daemon.ts';

export function addDisconnect(program: Command): void {
  const command = program
    .command('disconnect')
    .description('take a disk away from its guest, as if it were unplugged')
    .argument('<vbd>', VBD_ARGUMENT)
    .addHelpText(
      'after',
      '\nA Linux guest loses the disk at once, even while it is mounted. To remove a disk in\n' +
        "the usual way use the toolstack's command, xl block-detach.\n\n" +
        'Example:\n  ringdisk disconnect 3/xvdb',
    );
  addDaemonOptions(command).action(disconnect);
}

async function disconnect(vbd: string, options: DaemonOptions): Promise<void> {
  const result = await withDaemon(options, (client) => client.call('disconnect', { vbd }));
  printResult('disconnect', options, result, () => `${vbd} is disconnected.`);
}
