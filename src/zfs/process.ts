// SPDX-License-Identifier: Apache-2.0
// A program whose input or output is a stream of any length: `zfs send`, `zfs receive`, and what
// connects this host to another.
import { spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { ENVIRONMENT } from './command.ts';
import { ZfsError } from './zfs_error.ts';

const WORDS_MAX = 16 * 1024;

export interface RunningProcess {
  readonly stdin: Writable;
  readonly stdout: Readable;
  /** Settles when it has ended; rejects with ZfsError where it fails. */
  readonly ended: Promise<void>;
  /** One that sleeps in the kernel ends when the kernel lets it; nothing of it is waited for. */
  kill(): void;
}

export type StartProcess = (program: string, args: readonly string[]) => RunningProcess;

export const startProcess: StartProcess = (program, args) => {
  const child = spawn(program, args, {
    cwd: '/',
    env: ENVIRONMENT,
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let words = '';
  child.stderr.on('data', (chunk: Buffer) => {
    words = (words + chunk.toString('utf8')).slice(0, WORDS_MAX);
  });
  // Who writes to one that has ended is told by its end.
  child.stdin.on('error', () => {});
  const ended = new Promise<void>((resolve, reject) => {
    child.once('error', (error: NodeJS.ErrnoException) => {
      const kind = error.code === 'ENOENT' ? 'missing' : 'other';
      reject(new ZfsError(kind, program, args, error.message));
    });
    child.once('close', (code, signal) => {
      if (code === 0) resolve();
      else reject(ZfsError.of(program, args, words.trim() || `it ended with ${signal ?? code}`));
    });
  });
  ended.catch(() => {});
  const kill = () => {
    child.kill('SIGKILL');
    for (const stream of [child.stdin, child.stdout, child.stderr]) stream.destroy();
    child.unref();
  };
  return { stdin: child.stdin, stdout: child.stdout, ended, kill };
};
