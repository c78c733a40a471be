// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import type { WireVbd } from '../control/protocol.ts';
import { EXIT_CODE } from './exit_code.ts';
import { printResult } from './output.ts';
import { addDaemonOptions, type DaemonOptions, VBD_ARGUMENT, withDaemon } from './with_daemon.ts';

export function addRetry(program: Command): void {
  const command = program
    .command('retry')
    .description('try at once to open or take over a disk that could not be')
    .argument('<vbd>', VBD_ARGUMENT)
    .addHelpText(
      'after',
      '\nWhat fails because storage is missing, busy or hangs is tried again by itself, 1 to\n' +
        '30 s apart. This does not wait for that, and also tries once more what was given up.\n\n' +
        'Example:\n  ringdisk retry 3/xvda',
    );
  addDaemonOptions(command).action(retry);
}

async function retry(name: string, options: DaemonOptions): Promise<void> {
  const result = await withDaemon(options, (client) => client.call('retry', { vbd: name }));
  printResult('retry', options, result, () => textOf(name, result.vbd));
  // What was asked for is told; a script has to know that it failed.
  if (result.vbd.error !== undefined) process.exitCode = EXIT_CODE.error;
}

function textOf(name: string, { state, error }: WireVbd): string {
  return error === undefined ? `${name} is ${state}.` : `${name} is ${state}: ${error}`;
}
