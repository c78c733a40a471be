// SPDX-License-Identifier: Apache-2.0
// When something that failed for the environment's reasons is tried again.

export interface BackoffLimits {
  readonly firstMs: number;
  readonly mostMs: number;
  /** Between two tries, however often somebody asks for one: a guest may do so in a loop. */
  readonly leastMs: number;
}

export class Backoff {
  readonly #limits: BackoffLimits;
  readonly #now: () => number;
  #delayMs: number;
  #failedAt: number | undefined;
  #dueAt = 0;

  /** `now` in milliseconds, monotonic. */
  constructor(limits: BackoffLimits, now: () => number = () => performance.now()) {
    this.#limits = limits;
    this.#now = now;
    this.#delayMs = limits.firstMs;
  }

  get hasFailed(): boolean {
    return this.#failedAt !== undefined;
  }

  /** Milliseconds until the next try; 0: now. */
  get dueMs(): number {
    return this.#failedAt === undefined ? 0 : Math.max(0, Math.ceil(this.#dueAt - this.#now()));
  }

  failed(): void {
    this.#failedAt = this.#now();
    this.#dueAt = this.#failedAt + this.#delayMs;
    this.#delayMs = Math.min(this.#delayMs * 2, this.#limits.mostMs);
  }

  /** There is reason to think that it works now. */
  hurry(): void {
    if (this.#failedAt === undefined) return;
    this.#dueAt = Math.min(this.#dueAt, this.#failedAt + this.#limits.leastMs);
  }

  /** It worked, or begins anew. */
  reset(): void {
    this.#failedAt = undefined;
    this.#delayMs = this.#limits.firstMs;
  }
}
