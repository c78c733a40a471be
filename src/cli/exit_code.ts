// SPDX-License-Identifier: Apache-2.0
import { CommanderError } from 'commander';
import { DaemonUnreachableError } from '../control/errors.ts';
import { ConfigError } from '../errors.ts';

/** The exit status of every command. */
export const EXIT_CODE = {
  ok: 0,
  error: 1,
  usage: 2,
  daemonUnreachable: 3,
  /** EX_CONFIG of sysexits.h: starting it again changes nothing. */
  config: 78,
  /** 128 + SIGINT, as shells do it. */
  interrupted: 130,
} as const;

export type ExitCode = (typeof EXIT_CODE)[keyof typeof EXIT_CODE];

/** What was asked for makes no sense; the message says what would. */
export class UsageError extends Error {
  readonly code = 'USAGE';
  constructor(message: string) {
    super(message);
    this.name = 'UsageError';
  }
}

/** By SIGINT or SIGTERM; what was under way has been undone. */
export class InterruptedError extends Error {
  readonly code = 'INTERRUPTED';
}

/** The exit status that tells a script what went wrong. */
export function exitCodeOf(error: unknown): ExitCode {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT_CODE.ok : EXIT_CODE.usage;
  if (error instanceof ConfigError) return EXIT_CODE.config;
  if (error instanceof UsageError) return EXIT_CODE.usage;
  if (error instanceof InterruptedError) return EXIT_CODE.interrupted;
  if (error instanceof DaemonUnreachableError) return EXIT_CODE.daemonUnreachable;
  return EXIT_CODE.error;
}
