// SPDX-License-Identifier: Apache-2.0
// What a guest can cause, it can cause in a loop: log lines and reconciles of a VBD pass through
// here.
import type { Logger } from 'pino';

/** A token bucket: `perSecond` on average, `burst` at once. */
export class RateLimit {
  readonly #perSecond: number;
  readonly #burst: number;
  readonly #now: () => number;
  #tokens: number;
  #filledAt: number;

  /** `now` in milliseconds, monotonic. */
  constructor(perSecond: number, burst: number, now: () => number = () => performance.now()) {
    this.#perSecond = perSecond;
    this.#burst = burst;
    this.#now = now;
    this.#tokens = burst;
    this.#filledAt = now();
  }

  /** Takes a token if there is one. */
  take(): boolean {
    this.#fill();
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }

  /** Takes so many, also more than there are: who comes next waits for that. */
  charge(tokens: number): void {
    this.#fill();
    this.#tokens -= tokens;
  }

  /** Milliseconds until take() can succeed; 0: now. */
  delayMs(): number {
    this.#fill();
    return this.#tokens >= 1 ? 0 : Math.ceil(((1 - this.#tokens) / this.#perSecond) * 1000);
  }

  #fill(): void {
    const now = this.#now();
    const earned = ((now - this.#filledAt) / 1000) * this.#perSecond;
    this.#tokens = Math.min(this.#burst, this.#tokens + earned);
    this.#filledAt = now;
  }
}

type Level = 'info' | 'warn' | 'error';

/** The part of a logger a VBD uses, a bounded number of lines per second. */
export class LimitedLog {
  readonly #log: Logger;
  readonly #limit: RateLimit;
  #suppressed = 0;

  constructor(log: Logger, limit: RateLimit = new RateLimit(2, 20)) {
    this.#log = log;
    this.#limit = limit;
  }

  info(fields: object, message: string): void {
    this.#write('info', fields, message);
  }

  warn(fields: object, message: string): void {
    this.#write('warn', fields, message);
  }

  error(fields: object, message: string): void {
    this.#write('error', fields, message);
  }

  /** The next line that passes says how many did not. */
  #write(level: Level, fields: object, message: string): void {
    if (!this.#limit.take()) {
      this.#suppressed++;
      return;
    }
    const suppressed = this.#suppressed;
    this.#suppressed = 0;
    this.#log[level](suppressed === 0 ? fields : { ...fields, suppressed }, message);
  }
}
