// SPDX-License-Identifier: Apache-2.0
// Reads what a command writes as it comes: `zfs send`, which may take hours, but says something all
// the time.
import { spawn } from 'node:child_process';
import { ENVIRONMENT } from './command.ts';
import { ZfsError } from './zfs_error.ts';

const SILENCE_MS = 120_000;
const STDERR_CHARS_MAX = 16 * 1024;

export type ReadStream = (
  program: string,
  args: readonly string[],
  onData: (chunk: Buffer) => void,
) => Promise<void>;

/** Resolves when the command has ended well. What `onData` throws ends it. */
export const readStream: ReadStream = (program, args, onData) => {
  const child = spawn(program, args, {
    cwd: '/',
    env: ENVIRONMENT,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let words = '';
  return new Promise((resolve, reject) => {
    const fail = (error: Error) => {
      clearTimeout(timer);
      child.kill('SIGKILL');
      child.stdout.destroy();
      child.unref();
      reject(error);
    };
    const timer = setTimeout(() => {
      fail(new ZfsError('timeout', program, args, `nothing within ${SILENCE_MS / 1000} s`));
    }, SILENCE_MS);
    child.stdout.on('data', (chunk: Buffer) => {
      timer.refresh();
      try {
        onData(chunk);
      } catch (error) {
        fail(error as Error);
      }
    });
    child.stderr.on('data', (chunk: Buffer) => {
      words = (words + chunk.toString('utf8')).slice(0, STDERR_CHARS_MAX);
    });
    child.once('error', (error: NodeJS.ErrnoException) => {
      const kind = error.code === 'ENOENT' ? 'missing' : 'other';
      fail(new ZfsError(kind, program, args, error.message));
    });
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      if (code === 0) resolve();
      else reject(ZfsError.of(program, args, words.trim() || `it ended with ${signal ?? code}`));
    });
  });
};
