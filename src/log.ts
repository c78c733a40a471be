// SPDX-License-Identifier: Apache-2.0
// Structured logs: pino's JSON lines on stderr, which journald keeps; readable text on a terminal.
// Never one line per request; whatever a guest can cause is rate-limited where it is logged.
import { createRequire } from 'node:module';
import { type DestinationStream, type LevelWithSilent, type Logger, pino } from 'pino';
import type { PinoPretty } from 'pino-pretty';

export type { Logger } from 'pino';

export interface LogOptions {
  level: LevelWithSilent;
  /** Readable text instead of JSON; default: whether stderr is a terminal. */
  pretty?: boolean;
  /** Where the lines go; default: stderr. */
  destination?: DestinationStream;
}

/** The root logger of a process. */
export function createLogger({ level, pretty: readable, destination }: LogOptions): Logger {
  const options = {
    level,
    // systemd knows the pid and the host; a level's name reads better than its number.
    base: null,
    formatters: { level: (label: string) => ({ level: label }) },
    timestamp: pino.stdTimeFunctions.isoTime,
  };
  return pino(options, destination ?? standardError(readable ?? process.stderr.isTTY === true));
}

/** The logger of one VBD: every line says which. */
export function vbdLogger(log: Logger, vbd: string): Logger {
  return log.child({ vbd });
}

// Both are synchronous: the lines before a crash are those one needs.
function standardError(readable: boolean): DestinationStream {
  if (!readable) return pino.destination({ dest: 2, sync: true });
  // Loaded when it is needed: guests wait while a daemon starts, and a service logs JSON.
  const pretty = createRequire(import.meta.url)('pino-pretty') as typeof PinoPretty;
  return pretty({
    destination: 2,
    sync: true,
    ignore: 'pid,hostname',
    translateTime: 'SYS:HH:MM:ss.l',
    colorize: process.stderr.isTTY === true && !process.env['NO_COLOR'],
  });
}
