// SPDX-License-Identifier: Apache-2.0
// Not for people: the daemon, or systemd on its behalf, starts it; see src/formats.
import type { Command } from 'commander';
import { HELPER_COMMAND } from '../formats/start_helper.ts';
import { giveUpPrivileges } from './privileges.ts';

export function addImageHelper(program: Command): void {
  program
    .command(HELPER_COMMAND, { hidden: true })
    .description('become the program that serves an image; the daemon starts it')
    .action(async () => {
      await giveUpPrivileges();
      // Loaded when it is run, as in serve.ts.
      const { becomeHelper } = await import('../formats/become_helper.ts');
      await becomeHelper();
    });
}
