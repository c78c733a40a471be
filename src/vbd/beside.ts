// SPDX-License-Identifier: Apache-2.0
// What may take for ever runs beside a VBD's turns: the turns look whether it is over.
import { setTimeout as sleep } from 'node:timers/promises';

export type Outcome<T> = { readonly value: T } | { readonly error: Error };

/** A step under way, or its outcome. */
export class Beside<T> {
  /** Milliseconds, monotonic. */
  readonly since = performance.now();
  readonly #over: Promise<void>;
  #outcome: Outcome<T> | undefined;
  /** Somebody looked, and it was not over. */
  #isLate = false;

  /** `onOver` is called when it is over, if somebody has looked for it in vain. */
  constructor(step: Promise<T>, onOver: () => void) {
    this.#over = step
      .then(
        (value) => {
          this.#outcome = { value };
        },
        (error: unknown) => {
          this.#outcome = { error: error instanceof Error ? error : new Error(String(error)) };
        },
      )
      .then(() => {
        if (this.#isLate) onOver();
      });
  }

  get outcome(): Outcome<T> | undefined {
    return this.#outcome;
  }

  /** Calls back when it is over, or soon if it is already. */
  whenOver(tell: (outcome: Outcome<T>) => void): void {
    void this.#over.then(() => {
      if (this.#outcome) tell(this.#outcome);
    });
  }

  get ms(): number {
    return performance.now() - this.since;
  }

  /** Its outcome, if it is over within so many milliseconds. */
  async within(milliseconds: number): Promise<Outcome<T> | undefined> {
    if (!this.#outcome) await isOverWithin(this.#over, milliseconds);
    this.#isLate ||= !this.#outcome;
    return this.#outcome;
  }
}

export async function isOverWithin(
  promise: Promise<unknown> | undefined,
  milliseconds: number,
): Promise<boolean> {
  if (!promise) return true;
  const cancel = new AbortController();
  const late = sleep(milliseconds, false, { signal: cancel.signal }).catch(() => false);
  const isOver = await Promise.race([promise.then(() => true), late]);
  cancel.abort();
  return isOver;
}

/** Rejects once `signal` is aborted, and what comes later nobody is told. */
export async function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  promise.catch(() => {});
  let giveUp = () => {};
  const aborted = new Promise<never>((_, reject) => {
    giveUp = () => reject(new Error('it was given up'));
  });
  signal.addEventListener('abort', giveUp, { once: true });
  if (signal.aborted) giveUp();
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', giveUp);
  }
}

/** Something that will be over. */
export function deferred(): { readonly promise: Promise<void>; resolve(): void } {
  let resolve = () => {};
  const promise = new Promise<void>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}
