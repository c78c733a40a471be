// SPDX-License-Identifier: Apache-2.0
// Running a transaction: commit, abort, and again from the start when someone else was faster.
import { setTimeout as sleep } from 'node:timers/promises';
import { XenstoreError, type XenstoreRequests } from './client.ts';

/**
 * Open at a time on one connection. xenstored lets an unprivileged domain have 9, its kernel's
 * included, and several at once only get into each other's way.
 */
export const transactionsOpenMax = 4;

/** Two writers that meet 16 times in a row are a livelock, not bad luck. */
const transactionTriesMax = 16;
const delayMsMax = 32;

/** A transaction that xenstored has opened. */
export interface OpenTransaction {
  readonly requests: XenstoreRequests;
  /** Commits or aborts. Rejects with EAGAIN when the commit met a conflict. */
  end(commit: boolean): Promise<void>;
}

/**
 * For requests that a body makes after it returned: their transaction number may be someone else's.
 */
export function transactionIsOver(): XenstoreError {
  return new XenstoreError('EINVAL', 'the transaction of this request is over');
}

/** Lets so many transactions be open, the others in their order. A body must not open another. */
export class TransactionGate {
  #open = 0;
  readonly #waiting: (() => void)[] = [];

  async run<T>(step: () => Promise<T>): Promise<T> {
    if (this.#open < transactionsOpenMax) this.#open++;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await step();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#open--;
    }
  }
}

export async function runTransaction<T>(
  gate: TransactionGate,
  start: () => Promise<OpenTransaction>,
  body: (requests: XenstoreRequests) => Promise<T>,
): Promise<T> {
  for (let tries = 1; tries <= transactionTriesMax; tries++) {
    const result = await gate.run(async () => tryOnce(await start(), body));
    if (result) return result.value;
    // Random, or two writers that collided would collide again in step.
    await sleep(Math.random() * Math.min(2 ** tries, delayMsMax));
  }
  throw new XenstoreError(
    'EAGAIN',
    `the transaction met other writers ${transactionTriesMax} times in a row`,
  );
}

/** Undefined: the commit met a conflict. */
async function tryOnce<T>(
  transaction: OpenTransaction,
  body: (requests: XenstoreRequests) => Promise<T>,
): Promise<{ value: T } | undefined> {
  let value: T;
  try {
    value = await body(transaction.requests);
  } catch (error) {
    // What the body threw is the news; a connection that broke has aborted the transaction anyway.
    await transaction.end(false).catch(() => undefined);
    throw error;
  }
  try {
    await transaction.end(true);
  } catch (error) {
    if (error instanceof XenstoreError && error.code === 'EAGAIN') return undefined;
    throw error;
  }
  return { value };
}
