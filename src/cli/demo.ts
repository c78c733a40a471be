// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import type { OutputOptions } from './output.ts';

export function addDemo(program: Command): void {
  program
    .command('demo')
    .description('serve a disk to a guest on this machine, without Xen, and show what comes of it')
    .option('--json', 'print JSON, in a versioned envelope')
    .addHelpText(
      'after',
      '\nWrites 256 MiB into a temporary folder and removes it; takes some ten seconds.\n\n' +
        'Example:\n  ringdisk demo',
    )
    .action(async (options: OutputOptions) => {
      // Loaded when it is run, as in serve.ts.
      const { demo } = await import('./demo_run.ts');
      await demo(options);
    });
}
