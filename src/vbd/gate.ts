// SPDX-License-Identifier: Apache-2.0

/** Lets a bounded number of steps run at the same time, the others in their order. */
export class Gate {
  readonly #places: number;
  #inside = 0;
  readonly #patienceMs: number;
  readonly #waiting: (() => void)[] = [];
  readonly #idle: (() => void)[] = [];

  /** A step that takes longer than `patienceMs` gives its place up: it must not stop the others. */
  constructor(places: number, patienceMs: number) {
    this.#places = places;
    this.#patienceMs = patienceMs;
  }

  async run<T>(step: () => Promise<T>): Promise<T> {
    await this.#enter();
    let isInside = true;
    const leave = () => {
      if (isInside) this.#leave();
      isInside = false;
    };
    const timer = setTimeout(leave, this.#patienceMs);
    try {
      return await step();
    } finally {
      clearTimeout(timer);
      leave();
    }
  }

  /** Resolves when nobody is inside, or only who has been so for too long. */
  async idle(): Promise<void> {
    if (this.#inside > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  async #enter(): Promise<void> {
    if (this.#inside < this.#places) this.#inside++;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  #leave(): void {
    const next = this.#waiting.shift();
    if (next) {
      next();
      return;
    }
    this.#inside--;
    if (this.#inside === 0) for (const tell of this.#idle.splice(0)) tell();
  }
}
