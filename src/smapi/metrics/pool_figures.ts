// SPDX-License-Identifier: Apache-2.0
// What is told of an SR's pool. ZFS's commands say it, which take their time: so it is asked for
// now and then, and what was said last is told meanwhile, until it is too old.
import type { PoolInfo, PoolStatus, VolumeManager } from '../../volume/manager_types.ts';

const ASK_EVERY_MS = 30_000;
const TOO_OLD_MS = 150_000;

/** A pool that is an SR. */
export interface SrPool {
  /** The SR's, by which XAPI knows it. */
  readonly uuid: string;
  readonly info: PoolInfo;
  /** 0 to 1; undefined: nothing is scanned or resilvered. */
  readonly scanProgress?: number;
  /** Of reading, writing and checksums, of all its disks. */
  readonly errors?: number;
}

type Asked = Pick<VolumeManager, 'listPools' | 'poolStatus'>;

export class PoolFigures {
  readonly #manager: Asked;
  readonly #now: () => number;
  readonly #srs = new Map<string, string>();
  #pools: readonly SrPool[] = [];
  #toldAt = Number.NEGATIVE_INFINITY;
  #askedAt = Number.NEGATIVE_INFINITY;
  #asking: Promise<void> | undefined;

  /** `now`: milliseconds of a clock that never jumps. */
  constructor(manager: Asked, now: () => number = () => performance.now()) {
    this.#manager = manager;
    this.#now = now;
  }

  /** The SR of a pool, also of one that hangs. */
  srOf(pool: string): string | undefined {
    return this.#srs.get(pool);
  }

  /** What is known, at once: none where ZFS has not said anything for long. */
  get pools(): readonly SrPool[] {
    return this.#now() - this.#toldAt > TOO_OLD_MS ? [] : this.#pools;
  }

  /** Asks in the background, when it is time and nobody asks already. `isNews`: at once. */
  refresh(isNews = false): Promise<void> {
    const isDue = this.#now() - this.#askedAt >= ASK_EVERY_MS;
    if (!this.#asking && (isDue || isNews)) {
      this.#askedAt = this.#now();
      this.#asking = this.#ask().finally(() => {
        this.#asking = undefined;
      });
    }
    return this.#asking ?? Promise.resolve();
  }

  /** What cannot be told is not: the last word stands, and grows old. */
  async #ask(): Promise<void> {
    try {
      const infos = await this.#manager.listPools();
      for (const { pool, store } of infos) if (store) this.#srs.set(pool, store.uuid);
      this.#pools = await Promise.all(infos.flatMap((info) => this.#describe(info) ?? []));
      this.#toldAt = this.#now();
    } catch {
      // A pool that hangs, or no module: others say so where somebody asks.
    }
  }

  #describe(info: PoolInfo): Promise<SrPool> | undefined {
    const { store } = info;
    if (!store) return undefined;
    const known = { uuid: store.uuid, info };
    return this.#manager.poolStatus(info.pool).then(
      (status) => ({ ...known, errors: errorsIn(status), ...scanOf(status) }),
      () => known,
    );
  }
}

function scanOf({ scanProgress }: PoolStatus): { scanProgress?: number } {
  return scanProgress === undefined ? {} : { scanProgress };
}

function errorsIn({ vdevs }: PoolStatus): number {
  type Vdev = PoolStatus['vdevs'][keyof PoolStatus['vdevs']][number];
  const inOne = ({ readErrors, writeErrors, checksumErrors, children }: Vdev): number =>
    children.reduce((sum, child) => sum + inOne(child), 0) +
    readErrors +
    writeErrors +
    checksumErrors;
  return Object.values(vdevs)
    .flat()
    .reduce((sum, vdev) => sum + inOne(vdev), 0);
}
