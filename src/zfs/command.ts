// SPDX-License-Identifier: Apache-2.0
// Runs `zfs` and `zpool`: no shell, an end to every wait, a bound on what is read. A command that
// sleeps in the kernel cannot be killed: its caller is told, and it counts until it has ended.
import { type ChildProcess, spawn } from 'node:child_process';
import { ZfsError } from './zfs_error.ts';

export interface CommandOptions {
  /** Default: 60 s. */
  timeoutMs?: number;
  /** Written to its standard input: keys. */
  input?: Buffer;
  /** While a command of this slot has not ended, another one is refused as a time-out. */
  slot?: string;
  /** What it writes is its answer, whatever its exit status says. */
  anyStatus?: boolean;
}

/** Runs a program to its end and gives what it wrote. Throws ZfsError where it fails. */
export type RunCommand = (
  program: string,
  args: readonly string[],
  options?: CommandOptions,
) => Promise<string>;

const TIMEOUT_MS = 60_000;
/** 5 000 volumes of forty properties are a fifth of it. */
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024;
const STDERR_BYTES_MAX = 16 * 1024;
/** Of those that say on standard output why they fail, in characters. */
const WORDS_MAX = 2000;
/** Beyond this something hangs, and more of the same would only use up the host. */
const RUNNING_MAX = 64;
/** Above what a user may have said: a locale changes the words that errors are told by. */
export const ENVIRONMENT = { LC_ALL: 'C', PATH: '/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin' };

let running = 0;
/** Since when, in milliseconds, and what it says; not any more: it has taken too long. */
const slots = new Map<string, { since: number; answer?: Promise<string> | undefined }>();

export const runCommand: RunCommand = async (program, args, options = {}) => {
  if (running >= RUNNING_MAX) {
    throw new ZfsError('timeout', program, args, `${running} commands have not ended`);
  }
  const { slot } = options;
  const before = slot === undefined ? undefined : slots.get(slot);
  if (before?.answer) return before.answer;
  if (before) {
    const seconds = Math.round((performance.now() - before.since) / 1000);
    throw new ZfsError('timeout', program, args, `the one before has not ended for ${seconds} s`);
  }
  running++;
  const own: { since: number; answer?: Promise<string> | undefined } = { since: performance.now() };
  if (slot !== undefined) slots.set(slot, own);
  const child = spawn(program, args, {
    cwd: '/',
    env: ENVIRONMENT,
    stdio: [options.input ? 'pipe' : 'ignore', 'pipe', 'pipe'],
  });
  let over = false;
  const ended = () => {
    if (over) return;
    over = true;
    running--;
    if (slot !== undefined) slots.delete(slot);
  };
  child.once('close', ended);
  child.once('error', ended);
  own.answer = watch(child, program, args, options).finally(() => {
    own.answer = undefined;
  });
  return own.answer;
};

/**
 * For those who ask again and again, and may ask at once: a command that runs is not started once
 * more, but its answer shared; so what hangs in one pool never uses up the commands for all others.
 */
export function oncePerCommand(run: RunCommand): RunCommand {
  return (program, args, options) =>
    run(program, args, { ...options, slot: [program, ...args].join(' ') });
}

function watch(
  child: ChildProcess,
  program: string,
  args: readonly string[],
  { timeoutMs = TIMEOUT_MS, input, anyStatus = false }: CommandOptions,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const fail = (kind: 'timeout' | 'missing' | 'other', words: string) => {
      clearTimeout(timer);
      child.kill('SIGKILL');
      // It may sleep in the kernel: nothing of it is waited for, and it keeps nobody.
      child.stdout?.destroy();
      child.stderr?.destroy();
      child.unref();
      reject(new ZfsError(kind, program, args, words));
    };
    const seconds = timeoutMs / 1000;
    const timer = setTimeout(() => fail('timeout', `no end within ${seconds} s`), timeoutMs);
    const out = collect(child, 'stdout', OUTPUT_BYTES_MAX, () => fail('other', 'too much output'));
    const err = collect(child, 'stderr', STDERR_BYTES_MAX, () => {});
    child.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') fail('missing', `${program} is not installed`);
      else fail('other', error.message);
    });
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      if (code === 0 || (anyStatus && code !== null)) return resolve(out());
      const words = err().trim() || out().trim().slice(-WORDS_MAX);
      reject(ZfsError.of(program, args, words || `it ended with ${signal ?? code}`));
    });
    // A program that ends before it has read says itself why.
    child.stdin?.on('error', () => {});
    child.stdin?.end(input);
  });
}

function collect(
  child: ChildProcess,
  name: 'stdout' | 'stderr',
  bytesMax: number,
  tooMuch: () => void,
): () => string {
  const parts: Buffer[] = [];
  let bytes = 0;
  child[name]?.on('data', (part: Buffer) => {
    bytes += part.length;
    if (bytes <= bytesMax) parts.push(part);
    else tooMuch();
  });
  return () => Buffer.concat(parts).toString('utf8');
}
