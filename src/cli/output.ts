// SPDX-License-Identifier: Apache-2.0
// What every command prints: text for people, or with --json one versioned envelope per answer.
//   {"command":"list","version":1,"result":{...}}  or  {"command":"list","version":1,"error":{...}}
import { exitCodeOf } from './exit_code.ts';

/** Of the envelope and of the results in it: fields are only ever added within one version. */
export const JSON_VERSION = 1;

export interface OutputOptions {
  json?: boolean;
}

/** Prints `result` as the user wants it; `text` is only called when people read it. */
export function printResult(
  command: string,
  { json }: OutputOptions,
  result: object,
  text: () => string,
): void {
  const line = json ? JSON.stringify({ command, version: JSON_VERSION, result }) : text();
  if (line !== '') process.stdout.write(`${line}\n`);
}

/** Says what went wrong, on stderr, or with --json in the envelope on stdout. */
export function printError(command: string, json: boolean, error: unknown): void {
  const message = error instanceof Error ? error.message : String(error);
  if (!json) {
    process.stderr.write(`ringdisk: ${message}\n`);
    return;
  }
  const body = { code: codeOf(error), message, exitCode: exitCodeOf(error) };
  process.stdout.write(`${JSON.stringify({ command, version: JSON_VERSION, error: body })}\n`);
}

function codeOf(error: unknown): string {
  // Ours all have one, and so have Node's; what has none is a bug.
  const { code } = error as { code?: unknown };
  return typeof code === 'string' ? code : 'INTERNAL';
}
