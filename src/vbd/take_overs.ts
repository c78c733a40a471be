// SPDX-License-Identifier: Apache-2.0
// When VBDs are taken over, and for how long it is tried. A request that crashes the daemon would
// crash every daemon that replays it, and take all disks of the host down for ever. So each
// take-over is noted in the file system before it begins, and the note goes when all requests that
// were left are answered. A start after a crash counts it for every VBD with such a note; being
// killed is no crash. Those VBDs are taken over after all others and one at a time, so that from
// then on only the culprit's count grows; and one whose count is too high is left alone.
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { Gate } from './gate.ts';
import { type VbdId, vbdName } from './id.ts';
import type { Records } from './record.ts';

/** So many daemons in a row may crash while they take a VBD over. */
export const DEATHS_MAX = 3;

export interface TakeOverLimits {
  /** VBDs that are taken over at the same time. */
  readonly atOnce: number;
  /** One that takes longer must not stop the others. */
  readonly patienceMs: number;
  /** A daemon that lives for so long afterwards does not crash of it. */
  readonly probationMs: number;
}

/** A take-over under way, until what it replays is answered. */
export interface Trial {
  /** It succeeded; `recovered`: everything left by the dead daemon is answered. */
  endWith(recovered: Promise<void>): void;
  /** Nobody crashed. */
  end(): void;
}

interface OpenTrial extends Trial {
  readonly id: VbdId;
  readonly over: Promise<void>;
  readonly abandon: AbortController;
}

export class TakeOvers {
  readonly #records: Records;
  readonly #limits: TakeOverLimits;
  readonly #gate: Gate;
  readonly #open = new Map<string, OpenTrial>();
  readonly #leftAlone = new Set<VbdId>();
  #suspects: Promise<unknown> = Promise.resolve();
  #isOver = false;

  constructor(records: Records, limits: TakeOverLimits) {
    this.#records = records;
    this.#limits = limits;
    this.#gate = new Gate(limits.atOnce, limits.patienceMs);
  }

  /** Runs a step that may take this VBD over, when it is its turn. */
  run<T>(id: VbdId, step: () => Promise<T>): Promise<T> {
    const deaths = this.#records.deaths(id);
    const isSuspect = deaths > 0 && deaths < DEATHS_MAX;
    return isSuspect ? this.#runAlone(step) : this.#gate.run(step);
  }

  /** Resolves when nobody but suspects is inside, or only who has been so for too long. */
  idle(): Promise<void> {
    return this.#gate.idle();
  }

  /**
   * Notes that this VBD is being taken over. Throws an Error for the operator if too many daemons
   * have died of that.
   */
  begin(id: VbdId): Trial {
    const deaths = this.#records.deaths(id);
    if (deaths >= DEATHS_MAX) {
      this.#leftAlone.add(id);
      throw new Error(
        `the daemon crashed ${deaths} times in a row while it took this disk over; ` +
          '"ringdisk retry", "ringdisk upgrade" or "systemctl restart ringdisk" tries once more',
      );
    }
    const trial = this.#makeTrial(id);
    if (this.#isOver) {
      trial.abandon.abort();
      return trial;
    }
    this.#records.beginTrial(id);
    this.#open.set(vbdName(id), trial);
    return trial;
  }

  /** The end of this process is meant: the next one tries once more what is left alone. */
  handOver(): void {
    for (const { id } of this.#open.values()) this.#records.endTrial(id);
    for (const id of this.#leftAlone) this.forgive(id);
    this.leave();
  }

  /** One more try for a VBD that is left alone; if that is fatal, too, it is left alone again. */
  forgive(id: VbdId): void {
    if (this.#records.deaths(id) >= DEATHS_MAX) this.#records.setDeaths(id, DEATHS_MAX - 1);
    this.#leftAlone.delete(id);
  }

  /** Notes nothing any more. */
  leave(): void {
    this.#isOver = true;
    for (const { abandon } of this.#open.values()) abandon.abort();
    this.#open.clear();
  }

  async #runAlone<T>(step: () => Promise<T>): Promise<T> {
    const before = this.#suspects;
    const result = before.then(async () => {
      // Those that nobody died of have asked by then.
      await turn();
      await this.#gate.idle();
      await this.#nobodyOnTrial();
      return step();
    });
    const { probationMs } = this.#limits;
    const over = result.catch(() => {}).then(() => this.#nobodyOnTrial());
    this.#suspects = before.then(() => Promise.race([over, sleepQuietly(probationMs)]));
    return result;
  }

  async #nobodyOnTrial(): Promise<void> {
    await Promise.all([...this.#open.values()].map(({ over }) => over));
  }

  #makeTrial(id: VbdId): OpenTrial {
    const abandon = new AbortController();
    let finish = () => {};
    const over = new Promise<void>((resolve) => {
      finish = resolve;
    });
    const end = () => {
      if (!abandon.signal.aborted) {
        this.#records.endTrial(id);
        this.#records.setDeaths(id, 0);
      }
      abandon.abort();
      this.#open.delete(vbdName(id));
      finish();
    };
    const endWith = (recovered: Promise<void>) => {
      const { probationMs } = this.#limits;
      void Promise.race([recovered, sleepQuietly(probationMs, abandon.signal)]).then(end);
    };
    return { id, over, abandon, end, endWith };
  }
}

/** Keeps no process alive, and ends early when it is aborted. */
async function sleepQuietly(ms: number, signal?: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { ref: false, ...(signal && { signal }) }).catch(() => {});
}
