#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
import { CommanderError } from 'commander';
import { exitCodeOf, UsageError } from './exit_code.ts';
import { printError } from './output.ts';
import { buildProgram } from './program.ts';

async function main(): Promise<void> {
  // "ringdisk list | head" ends when head does.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    process.exit(error.code === 'EPIPE' ? 0 : 1);
  });
  const json = process.argv.includes('--json');
  const program = buildProgram(json ? { writeErr: () => {} } : {});
  try {
    await program.parseAsync();
  } catch (error) {
    const [command = 'ringdisk'] = process.argv.slice(2);
    // commander has printed its own already, for people.
    if (!(error instanceof CommanderError)) printError(command, json, error);
    else if (json && error.exitCode !== 0) printError(command, json, new UsageError(error.message));
    // Whatever is still open after a failure must not keep the process.
    process.exit(exitCodeOf(error));
  }
}

// No await: this is bundled as CommonJS, which has none at the top.
void main();
