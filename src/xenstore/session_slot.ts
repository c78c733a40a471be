// SPDX-License-Identifier: Apache-2.0
// The session of a connection that may be lost and come back, and those who wait for the next one.
import type { XenstoreError } from './client.ts';
import type { Session } from './session.ts';

interface Waiter {
  resolve(session: Session): void;
  reject(error: XenstoreError): void;
}

export class SessionSlot {
  readonly #waiters = new Set<Waiter>();
  #current: Session | undefined;

  get current(): Session | undefined {
    return this.#current;
  }

  /** Everyone who waits gets it. */
  set(session: Session): void {
    this.#current = session;
    for (const waiter of this.#takeWaiters()) waiter.resolve(session);
  }

  /** From now on one has to wait for the next. */
  clear(): void {
    this.#current = undefined;
  }

  /** There will be no next one. */
  fail(reason: XenstoreError): void {
    for (const waiter of this.#takeWaiters()) waiter.reject(reason);
  }

  /** The next session; rejects with `tooLate` after `waitMs` milliseconds. */
  next(waitMs: number, tooLate: XenstoreError): Promise<Session> {
    return new Promise<Session>((resolve, reject) => {
      const waiter = { resolve, reject };
      this.#waiters.add(waiter);
      const timer = setTimeout(() => {
        this.#waiters.delete(waiter);
        reject(tooLate);
      }, waitMs);
      waiter.resolve = (session) => {
        clearTimeout(timer);
        resolve(session);
      };
      waiter.reject = (error) => {
        clearTimeout(timer);
        reject(error);
      };
    });
  }

  #takeWaiters(): Waiter[] {
    const waiters = [...this.#waiters];
    this.#waiters.clear();
    return waiters;
  }
}
