// SPDX-License-Identifier: Apache-2.0
// Changes of one volume come one after another. What touches a volume's relatives as well (promote,
// a revert, the end of an origin) has the whole pool to itself.

interface Turn {
  exclusive: boolean;
  key: string;
  start(): void;
}

/** Of one pool, in the order of asking: nobody is overtaken by who would be in the way. */
class PoolTurns {
  readonly #running = new Set<Turn>();
  readonly #waiting: Turn[] = [];

  async run<T>(exclusive: boolean, key: string, body: () => Promise<T>): Promise<T> {
    const turn: Turn = { exclusive, key, start: () => {} };
    const started = new Promise<void>((resolve) => {
      turn.start = resolve;
    });
    this.#waiting.push(turn);
    this.#startThoseThatMay();
    await started;
    try {
      return await body();
    } finally {
      this.#running.delete(turn);
      this.#startThoseThatMay();
    }
  }

  #startThoseThatMay(): void {
    const before: Turn[] = [];
    for (const turn of [...this.#waiting]) {
      const isFree = ![...this.#running, ...before].some((other) => meet(turn, other));
      if (isFree) {
        this.#waiting.splice(this.#waiting.indexOf(turn), 1);
        this.#running.add(turn);
        turn.start();
      } else before.push(turn);
    }
  }
}

function meet(one: Turn, other: Turn): boolean {
  return one.exclusive || other.exclusive || one.key === other.key;
}

export class Locks {
  readonly #pools = new Map<string, PoolTurns>();

  /** Runs `body` while nobody else changes this volume. */
  volume<T>(pool: string, key: string, body: () => Promise<T>): Promise<T> {
    return this.#turns(pool).run(false, key, body);
  }

  /** Runs `body` while nobody else changes anything of the pool. */
  pool<T>(pool: string, body: () => Promise<T>): Promise<T> {
    return this.#turns(pool).run(true, '', body);
  }

  #turns(pool: string): PoolTurns {
    const turns = this.#pools.get(pool) ?? new PoolTurns();
    this.#pools.set(pool, turns);
    return turns;
  }
}
