// SPDX-License-Identifier: Apache-2.0
// XAPI calls for one volume as often at a time as it likes; they are carried out one by one.

export class Turns {
  /** By what is taken, the last who has asked for it. */
  readonly #last = new Map<string, Promise<void>>();

  /** Runs `step` when nobody who came before holds any of `names`. */
  async take<T>(names: readonly string[], step: () => Promise<T>): Promise<T> {
    const taken = [...new Set(names)];
    // Asked for all at once: whoever comes later waits for us with each of them, so none in a ring.
    const before = taken.map((name) => this.#last.get(name));
    let pass = () => {};
    const over = new Promise<void>((resolve) => {
      pass = resolve;
    });
    for (const name of taken) this.#last.set(name, over);
    try {
      await Promise.all(before);
      return await step();
    } finally {
      for (const name of taken) if (this.#last.get(name) === over) this.#last.delete(name);
      pass();
    }
  }
}
