// SPDX-License-Identifier: Apache-2.0
// One thing at a time: reconciles and commands of a VBD take turns, and any number of marks make
// one reconcile.
import { setTimeout as sleep } from 'node:timers/promises';
import { RateLimit } from './rate_limit.ts';

// A guest may write its nodes in a loop; each reconcile costs xenstored some twenty requests.
const RECONCILES_PER_SECOND = 50;
const RECONCILE_BURST = 100;

export class Turns {
  readonly #reconcile: () => Promise<void>;
  readonly #pace = new RateLimit(RECONCILES_PER_SECOND, RECONCILE_BURST);
  readonly #waiters = new Set<() => void>();
  #last: Promise<unknown> = Promise.resolve();
  #marked = false;
  #ended = false;
  #timer: NodeJS.Timeout | undefined;

  /** `reconcile` must not throw. */
  constructor(reconcile: () => Promise<void>) {
    this.#reconcile = reconcile;
  }

  /** A reconcile is due and has not begun. */
  get isMarked(): boolean {
    return this.#marked;
  }

  /** Asks for a reconcile. Cheap, and as often as you like. */
  mark(): void {
    if (this.#marked || this.#ended) return;
    this.#marked = true;
    void this.exclusive(() => this.#takeTurn());
  }

  /** Asks for one later; only the last such wish counts. */
  markIn(milliseconds: number): void {
    clearTimeout(this.#timer);
    if (!this.#ended) this.#timer = setTimeout(() => this.mark(), milliseconds);
  }

  cancelTimer(): void {
    clearTimeout(this.#timer);
  }

  /** Runs `step` when everything before it is done. */
  exclusive<T>(step: () => Promise<T>): Promise<T> {
    const result = this.#last.then(step);
    this.#last = result.catch(() => undefined);
    return result;
  }

  /** Looks after every reconcile. Also resolves at the end, and when `milliseconds` are over. */
  async until(condition: () => boolean, milliseconds?: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      const check = (isOver: boolean) => {
        if (!isOver && !condition() && !this.#ended) return;
        this.#waiters.delete(onTurn);
        resolve();
      };
      const onTurn = () => check(false);
      this.#waiters.add(onTurn);
      if (milliseconds !== undefined) timer = setTimeout(() => check(true), milliseconds);
      check(false);
    });
    clearTimeout(timer);
  }

  /** No reconcile begins after this. */
  end(): void {
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#tellWaiters();
  }

  async #takeTurn(): Promise<void> {
    const delay = this.#pace.delayMs();
    if (delay > 0) await sleep(delay);
    this.#pace.take();
    this.#marked = false;
    if (this.#ended) return;
    await this.#reconcile();
    this.#tellWaiters();
  }

  #tellWaiters(): void {
    for (const waiter of [...this.#waiters]) waiter();
  }
}
