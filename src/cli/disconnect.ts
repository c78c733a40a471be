// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import { printResult } from './output.ts';
import { addDaemonOptions, type DaemonOptions, VBD_ARGUMENT, withDaemon } from './with_daemon.ts';

interface DisconnectOptions extends DaemonOptions {
  force?: boolean;
}

export function addDisconnect(program: Command): void {
  const command = program
    .command('disconnect')
    .description('ask a guest to let go of a disk, or take it away')
    .argument('<vbd>', VBD_ARGUMENT)
    .option('--force', 'take it away after 8 s, even while it is in use')
    .addHelpText(
      'after',
      '\nThe guest is asked as by xl block-detach, and the disk is served until it has let go.\n' +
        'This waits for 30 s and says if it has not; the guest may still do so later. With\n' +
        '--force a guest that does not let go within 8 s loses the disk and what it had not yet\n' +
        'written. Where storage hangs, that takes 6 s more, and its last I/O is said not to be\n' +
        'over: that is a failure, as it may still land. Many Linux guests give a\n' +
        'disk up at once, even while it is mounted.\n' +
        "To remove a disk for good use the toolstack's command, xl block-detach.\n\n" +
        'Example:\n  ringdisk disconnect 3/xvdb',
    );
  addDaemonOptions(command).action(disconnect);
}

async function disconnect(vbd: string, options: DisconnectOptions): Promise<void> {
  const { force = false } = options;
  const result = await withDaemon(options, (client) => client.call('disconnect', { vbd, force }));
  printResult('disconnect', options, result, () => `${vbd} is disconnected.`);
}
