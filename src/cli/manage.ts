// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import { RUNTIME_DIR } from '../config.ts';
import { MANAGE_DIR } from '../volume/manage_protocol.ts';
import type { ManageOptions } from './manage_process.ts';

export function addManage(program: Command): void {
  program
    .command('manage')
    .description('run the volume manager: pools and volumes of ZFS, for operators and toolstacks')
    .option('--runtime-dir <dir>', 'for the control socket', MANAGE_DIR)
    .option('--daemon-runtime-dir <dir>', 'of the daemon that serves the disks', RUNTIME_DIR)
    .addHelpText(
      'after',
      '\nIt runs zpool and zfs, and meets no guest; ringdisk serve does, and runs neither.\n' +
        ' Both may be stopped and started at any time, one without the other.\n\n' +
        'Example:\n  ringdisk manage',
    )
    .action(async (options: ManageOptions) => {
      const { manage } = await import('./manage_process.ts');
      await manage(options);
    });
}
