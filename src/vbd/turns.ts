// SPDX-License-Identifier: Apache-2.0
// One thing at a time: reconciles and commands of a VBD take turns, and any number of marks make
// one reconcile.
import { RateLimit } from './rate_limit.ts';

// A guest may write its nodes in a loop; each look at them costs xenstored a dozen requests. The
// pace is one for all disks of a guest.
const LOOKS_PER_SECOND = 50;
const LOOKS_AT_ONCE = 100;
const REQUESTS_PER_LOOK = 12;

export function guestPace(): RateLimit {
  return new RateLimit(LOOKS_PER_SECOND, LOOKS_AT_ONCE);
}

/** A long look counts as several: a ring may have 16 nodes, a disk 8 rings. */
export function chargeRequests(pace: RateLimit, requests: number): void {
  pace.charge(requests / REQUESTS_PER_LOOK);
}

export class Turns {
  readonly #reconcile: () => Promise<void>;
  readonly #pace: RateLimit;
  readonly #waiters = new Set<() => void>();
  #last: Promise<unknown> = Promise.resolve();
  #marked = false;
  #ended = false;
  #timer: NodeJS.Timeout | undefined;
  #timerDue = 0;
  /** Nobody but the guest has asked for the reconcile that is due. */
  #isGuests = false;
  #hurry: () => void = () => {};

  /** `reconcile` must not throw. All it causes counts against `pace`, the guest alone waits. */
  constructor(reconcile: () => Promise<void>, pace: RateLimit = guestPace()) {
    this.#reconcile = reconcile;
    this.#pace = pace;
  }

  /** A reconcile is due and has not begun. */
  get isMarked(): boolean {
    return this.#marked;
  }

  /** Asks for a reconcile. Cheap, and as often as you like. */
  mark(): void {
    this.#isGuests = false;
    this.#hurry();
    this.#begin();
  }

  /** As mark(), for what a guest can cause in a loop. */
  markByGuest(): void {
    if (!this.#marked) this.#isGuests = true;
    this.#begin();
  }

  /** Asks for one later, unless one begins before; the earliest such wish counts. */
  markIn(milliseconds: number): void {
    if (this.#ended) return;
    const due = performance.now() + milliseconds;
    if (this.#timer && this.#timerDue <= due) return;
    clearTimeout(this.#timer);
    this.#timerDue = due;
    this.#timer = setTimeout(() => this.mark(), milliseconds);
  }

  #cancelTimer(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #begin(): void {
    if (this.#marked || this.#ended) return;
    this.#marked = true;
    void this.exclusive(() => this.#takeTurn());
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
    this.#cancelTimer();
    this.#hurry();
    this.#tellWaiters();
  }

  async #takeTurn(): Promise<void> {
    if (this.#isGuests) await this.#waitForPace();
    this.#pace.take();
    this.#marked = false;
    this.#isGuests = false;
    if (this.#ended) return;
    // Whoever wants to look again says so anew.
    this.#cancelTimer();
    await this.#reconcile();
    this.#tellWaiters();
  }

  async #waitForPace(): Promise<void> {
    const delay = this.#pace.delayMs();
    if (delay === 0) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, delay);
      this.#hurry = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#hurry = () => {};
    // Others of its guest may have been faster.
    if (this.#isGuests && !this.#ended) await this.#waitForPace();
  }

  #tellWaiters(): void {
    for (const waiter of [...this.#waiters]) waiter();
  }
}
