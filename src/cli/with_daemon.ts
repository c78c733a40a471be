// SPDX-License-Identifier: Apache-2.0
// The part that all commands which ask the daemon share.
import type { Command } from 'commander';
import { RUNTIME_DIR } from '../config.ts';
import { ControlClient } from '../control/client.ts';
import { controlSocketPath } from '../control/protocol.ts';

export interface DaemonOptions {
  runtimeDir: string;
  json?: boolean;
}

/** Adds the options of a command that asks the daemon. */
export function addDaemonOptions(command: Command): Command {
  return command
    .option('--runtime-dir <dir>', "the daemon's runtime directory", RUNTIME_DIR)
    .option('--json', 'print JSON, in a versioned envelope');
}

/** Runs `body` with a connection to the daemon, and closes it. */
export async function withDaemon<T>(
  { runtimeDir }: DaemonOptions,
  body: (client: ControlClient) => Promise<T>,
): Promise<T> {
  const client = await ControlClient.connect(controlSocketPath(runtimeDir));
  try {
    return await body(client);
  } finally {
    client.close();
  }
}

/** How a VBD may be named, for every command that takes one. */
export const VBD_ARGUMENT = 'the disk: 3/xvda, 3/51712 or vbd3/3/51712';
