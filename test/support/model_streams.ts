// SPDX-License-Identifier: Apache-2.0
// `zfs send` and `zfs receive` of model_zfs.ts as processes: a line of JSON, then the payload.
import { PassThrough, Writable } from 'node:stream';
import type { RunningProcess, StartProcess } from '../../src/zfs/process.ts';
import { ZfsError } from '../../src/zfs/zfs_error.ts';
import type { ModelZfs, ReceiveWish, StreamHead } from './model_zfs.ts';

const CHUNK = 1024;

export class ModelStreams {
  readonly #zfs: ModelZfs;
  /** The sender dies after so many bytes of payload, once. */
  cutAfter: number | undefined;
  /** Streams that have begun, as `zfs send` was called. */
  readonly sent: string[] = [];

  constructor(zfs: ModelZfs) {
    this.#zfs = zfs;
  }

  readonly start: StartProcess = (program, args) => {
    if (program === 'zfs' && args[0] === 'send') return this.#send(args);
    if (program === 'zfs' && args[0] === 'receive') return receiveInto(this.#zfs, args);
    return failed(program, args, `there is no ${program}`);
  };

  #send(args: readonly string[]): RunningProcess {
    let head: StreamHead;
    try {
      head = this.#zfs.send(args);
    } catch (error) {
      return failed('zfs', args, (error as ZfsError).words);
    }
    this.sent.push(args.join(' '));
    const cut = this.cutAfter;
    this.cutAfter = undefined;
    const stdout = new PassThrough();
    const bytes = Math.min(head.bytes, cut ?? head.bytes);
    const ended = (async () => {
      stdout.write(`${JSON.stringify(head)}\n`);
      for (let at = 0; at < bytes; at += CHUNK) {
        if (stdout.destroyed) throw ZfsError.of('zfs', args, 'Broken pipe');
        if (!stdout.write(Buffer.alloc(Math.min(CHUNK, bytes - at)))) {
          await drained(stdout);
        }
      }
      stdout.end();
      if (cut !== undefined) throw ZfsError.of('zfs', args, 'it ended with SIGKILL');
    })();
    ended.catch(() => {});
    return { stdin: sink(), stdout, ended, kill: () => stdout.destroy() };
  }
}

/** `zfs receive` with these arguments. */
export function receiveInto(zfs: ModelZfs, args: readonly string[]): RunningProcess {
  const wish = readWish(args);
  const stdin = new PassThrough();
  const ended = (async () => {
    let head: StreamHead | undefined;
    let text = Buffer.alloc(0);
    let bytes = 0;
    try {
      for await (const chunk of stdin as AsyncIterable<Buffer>) {
        if (head) {
          bytes += chunk.length;
          continue;
        }
        text = Buffer.concat([text, chunk]);
        const end = text.indexOf(10);
        if (end === -1) continue;
        head = JSON.parse(text.subarray(0, end).toString()) as StreamHead;
        zfs.beginReceive(args, wish, head);
        bytes = text.length - end - 1;
      }
    } catch (error) {
      // One that is killed keeps what has come (-s).
      if (error instanceof ZfsError) throw error;
    }
    if (!head) throw ZfsError.of('zfs', args, 'failed to read from stream');
    if (zfs.endReceive(wish, head, bytes) === 'whole') return;
    throw ZfsError.of('zfs', args, 'checksum mismatch or incomplete stream');
  })();
  ended.catch((error) => stdin.destroy(error));
  stdin.on('error', () => {});
  return { stdin, stdout: new PassThrough().end(), ended, kill: () => stdin.destroy() };
}

function readWish(args: readonly string[]): ReceiveWish {
  const settings = new Map<string, string>();
  const without = new Set<string>();
  for (const [at, word] of args.entries()) {
    const next = args[at + 1] ?? '';
    if (word === '-x') without.add(next);
    const [, name = '', value = ''] = /^([^=]+)=(.*)$/s.exec(next) ?? [];
    if (word === '-o') settings.set(name, value);
  }
  return { dataset: args.at(-1) ?? '', force: args.includes('-F'), settings, without };
}

function drained(stream: PassThrough): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      stream.off('drain', done).off('close', done);
      resolve();
    };
    stream.on('drain', done).on('close', done);
  });
}

function sink(): Writable {
  return new Writable({ write: (_chunk, _encoding, done) => done() });
}

export function failed(program: string, args: readonly string[], words: string): RunningProcess {
  const ended = Promise.reject(ZfsError.of(program, args, words));
  ended.catch(() => {});
  return { stdin: sink(), stdout: new PassThrough().end(), ended, kill: () => {} };
}
