// SPDX-License-Identifier: Apache-2.0
// The end of a helper, and what it says until then. Its standard error is a FIFO: the kernel tells
// whoever reads it when the last process that writes there is gone, also a daemon that came later.
import { constants, openSync } from 'node:fs';
import { Socket } from 'node:net';
import { type HelperFiles, type HelperRecord, startOfProcess } from './helper_record.ts';

const LINE_LENGTH_MAX = 500;
/** Of one without an end; QEMU says all of an option before what is wrong with it. */
const REST_LENGTH_MAX = 64 * 1024;
const LINES_KEPT = 8;

export interface HelperWatch {
  /** Resolves when the process has ended. */
  readonly ended: Promise<void>;
  readonly isOver: () => boolean;
  /** The last ones. */
  readonly lines: readonly string[];
  /** Nobody looks any more. */
  stop(): void;
}

type Process = Pick<HelperRecord, 'pid' | 'startedAt'>;

export function isAlive({ pid, startedAt }: Process): boolean {
  return startOfProcess(pid) === startedAt;
}

export function watchHelper(
  record: Process,
  { log }: Pick<HelperFiles, 'log'>,
  onLine: (line: string) => void,
): HelperWatch {
  const lines: string[] = [];
  const fd = openSync(log, constants.O_RDONLY | constants.O_NONBLOCK);
  const socket = new Socket({ fd, readable: true, writable: false });
  let isOver = false;
  let rest = '';
  const take = (text: string) => {
    const line = withoutOption(text).slice(0, LINE_LENGTH_MAX);
    if (line === '') return;
    lines.push(line);
    if (lines.length > LINES_KEPT) lines.shift();
    onLine(line);
  };
  socket.setEncoding('utf8').on('data', (text: string) => {
    const parts = (rest + text).split('\n');
    rest = (parts.pop() ?? '').slice(0, REST_LENGTH_MAX);
    for (const part of parts) take(part);
  });
  const ended = new Promise<void>((resolve) => {
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      take(rest);
      isOver = true;
      resolve();
    });
  });
  socket.unref();
  // Of one that had ended before the FIFO was opened, the kernel tells nothing.
  if (!isAlive(record)) socket.destroy();
  return { ended, isOver: () => isOver, lines, stop: () => socket.destroy() };
}

function withoutOption(line: string): string {
  return line.replace(/^(qemu-storage-daemon: )--[a-z-]+ \{.*\}: /, '$1');
}

/** What a program said before it ended, as the reason that it gives. */
export function reasonOf(lines: readonly string[]): { code: string; message: string } {
  // Behind an error QEMU may say what to do about it.
  const said = lines.findLast((line) => NAMED.test(line)) ?? lines.at(-1) ?? 'it does not say why';
  const message = said.replace(NAMED, '');
  const code = REASONS.find(([pattern]) => pattern.test(said))?.[1] ?? 'EIO';
  const hint = HINTS.find(([pattern]) => pattern.test(said))?.[1];
  return { code, message: hint === undefined ? message : `${message}. ${hint}` };
}

const NAMED = /^(qemu-storage-daemon|nbdkit): /;

const REASONS: readonly [RegExp, string][] = [
  [/Failed to get .* lock/, 'EBUSY'],
  [/Unknown (driver|protocol)/, 'ENOPKG'],
  [/No such file or directory/, 'ENOENT'],
  [/Permission denied/, 'EACCES'],
  [/Read-only file system/, 'EROFS'],
  [/Operation not permitted/, 'EPERM'],
];

const HINTS: readonly [RegExp, string][] = [
  [/Failed to get .* lock/, 'Another program uses it: two that write to one image destroy it'],
  [/Unknown (driver|protocol)/, "It is in Debian's package qemu-block-extra"],
  [/cannot open plugin/, "It is in Debian's package nbdkit, or nbdkit-plugin-…"],
];
