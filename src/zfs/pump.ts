// SPDX-License-Identifier: Apache-2.0
// What one program writes goes to another's input, as fast as both can or as a limit says.
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { limiter } from './limiter.ts';
import type { RunningProcess } from './process.ts';

/** A pool that frees much, or a slow disk, may keep a receiver silent for minutes. */
const SILENCE_MS = 10 * 60_000;
/** For the words of those that were ended. */
const LAST_WORDS_MS = 2000;
const LOOK_MS = 20;

export interface PumpOptions {
  /** Bytes a second. */
  rate?: number | undefined;
  signal: AbortSignal;
  onBytes(bytes: number): void;
  /** Ends both where nothing has moved for so long. */
  silenceMs?: number;
}

/** Resolves when both have ended well. Throws what the one that is to blame says. */
export async function pump(
  from: RunningProcess,
  to: RunningProcess,
  { rate, signal, onBytes, silenceMs = SILENCE_MS }: PumpOptions,
): Promise<void> {
  const silence = new AbortController();
  const timer = setTimeout(() => silence.abort(), silenceMs);
  const any = AbortSignal.any([signal, silence.signal]);
  const counter = limiter(rate, (bytes) => {
    timer.refresh();
    onBytes(bytes);
  });
  // What it says there has no reader.
  to.stdout.resume();
  const ends = watch(from, to);
  try {
    await pipeline(from.stdout, counter, to.stdin, { signal: any });
    await Promise.race([Promise.all([from.ended, to.ended]), rejectedBy(any)]);
  } catch (error) {
    throw await whyOf(ends, { error: error as Error, signal, silence: silence.signal });
  } finally {
    clearTimeout(timer);
    from.kill();
    to.kill();
  }
}

function rejectedBy(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const fail = () => reject(new Error('aborted'));
    if (signal.aborted) fail();
    else signal.addEventListener('abort', fail, { once: true });
  });
}

/** How a sender fails whose receiver has gone. */
const BROKEN = /broken pipe|connection reset|EPIPE|SIGPIPE|signal received|ended with 141/i;

interface Ends {
  /** Undefined: it goes on; null: it has ended well. */
  from: Error | null | undefined;
  to: Error | null | undefined;
}

function watch(from: RunningProcess, to: RunningProcess): Ends {
  const ends: Ends = { from: undefined, to: undefined };
  const note = (which: keyof Ends, { ended }: RunningProcess) =>
    ended.then(
      () => {
        ends[which] = null;
      },
      (error: Error) => {
        ends[which] = error;
      },
    );
  void note('from', from);
  void note('to', to);
  return ends;
}

async function whyOf(
  ends: Ends,
  { error, signal, silence }: { error: Error; signal: AbortSignal; silence: AbortSignal },
): Promise<Error> {
  if (signal.aborted) return new Error('it was stopped');
  if (silence.aborted) return new Error('nothing has moved for minutes, so it was ended');
  // A pipe breaks a moment before the one who broke it has said why.
  const isOver = () => ends.from !== undefined && ends.to !== undefined;
  for (let waited = 0; !isOver() && waited < LAST_WORDS_MS; waited += LOOK_MS) {
    await sleep(LOOK_MS);
  }
  const { from, to } = ends;
  // A receiver whose sender has failed says that the stream is short, and no more.
  if (from && !BROKEN.test(from.message)) return from;
  return to ?? from ?? error;
}
