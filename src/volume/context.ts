// SPDX-License-Identifier: Apache-2.0
// What all operations of the manager share.
import { randomUUID } from 'node:crypto';
import type { Logger } from '../log.ts';
import type { RunCommand } from '../zfs/command.ts';
import type { Zfs } from '../zfs/zfs.ts';
import { Zpool } from '../zfs/zpool.ts';
import { explained } from './failures.ts';
import { Locks } from './locks.ts';
import { ManagerError } from './manager_types.ts';
import { oldDataset } from './names.ts';
import { ASKED, type DatasetRecord, toRecord } from './records.ts';
import { LendingZfs } from './reserve.ts';
import { BetweenTwoError, Store } from './store.ts';

const LOOKS_MAX = 10;

export class Context {
  readonly run: RunCommand;
  readonly zfs: Zfs;
  readonly zpool: Zpool;
  readonly log: Logger;
  readonly #locks = new Locks();
  readonly #stores = new Map<string, Store>();

  constructor(run: RunCommand, log: Logger) {
    this.run = run;
    this.zfs = new LendingZfs(run);
    this.zpool = new Zpool(run);
    this.log = log;
  }

  store(pool: string): Store {
    const known = this.#stores.get(pool);
    if (known) return known;
    const store = new Store(pool, this.zfs, this.log);
    this.#stores.set(pool, store);
    return store;
  }

  /** Runs `body` while nobody else changes anything of the pool; of its store there may be none. */
  alone<T>(pool: string, body: () => Promise<T>): Promise<T> {
    return this.#locks.pool(pool, body);
  }

  /** Runs `body` while nobody else changes the store, which has nothing left to do before. */
  changeStore<T>(pool: string, body: (store: Store) => Promise<T>): Promise<T> {
    const store = this.store(pool);
    return this.#locks.pool(pool, async () => {
      if (store.isDirty) await store.finish();
      try {
        return await body(store);
      } catch (error) {
        store.markDirty();
        throw error;
      }
    });
  }

  /** Runs `body` while nobody else changes this volume. */
  async changeVolume<T>(pool: string, key: string, body: (store: Store) => Promise<T>): Promise<T> {
    const store = await this.#cleanStore(pool);
    return this.#locks.volume(pool, key, () => body(store));
  }

  /** Runs `body`, which only looks; anew while it would see what is between two states. */
  async looking<T>(pool: string, body: (store: Store) => Promise<T>): Promise<T> {
    const store = await this.#cleanStore(pool);
    for (let looks = 1; ; looks++) {
      try {
        return await body(store);
      } catch (error) {
        if (!(error instanceof BetweenTwoError) || looks === LOOKS_MAX) throw error;
        // Whoever does it has the pool to himself; if nobody does, it is finished here.
        await this.#locks.pool(pool, () => store.finish());
      }
    }
  }

  async #cleanStore(pool: string): Promise<Store> {
    const store = this.store(pool);
    if (store.isDirty) await this.#locks.pool(pool, () => store.finish());
    return store;
  }

  /** A dataset as it is now; it is there. */
  async look(pool: string, dataset: string): Promise<DatasetRecord> {
    return explained('volume', `${dataset} cannot be read`, async () => {
      const found = await this.zfs.get(dataset, { properties: ASKED });
      const properties = found.get(dataset);
      if (properties) return toRecord(pool, dataset, properties);
      throw new ManagerError('ZFS_FAILED', `ZFS says nothing of ${dataset}`);
    });
  }

  /** All snapshots that a volume has in ZFS, newest first, also those that callers do not see. */
  snapshotsOf(pool: string, dataset: string): Promise<DatasetRecord[]> {
    return this.#below(pool, dataset, 'snapshot');
  }

  /** With its bookmarks. */
  relativesOf(pool: string, dataset: string): Promise<DatasetRecord[]> {
    return this.#below(pool, dataset, 'snapshot,bookmark');
  }

  #below(pool: string, dataset: string, types: string): Promise<DatasetRecord[]> {
    return explained('volume', `the snapshots of ${dataset} cannot be read`, async () => {
      const options = { properties: ASKED, recursive: true, types };
      const found = await this.zfs.get(dataset, options);
      const records = [...found].map(([name, properties]) => toRecord(pool, name, properties));
      return records.sort((one, other) => other.createTxg - one.createTxg);
    });
  }

  /** For a volume that is gone but for its snapshots: nobody asks for it by name. */
  oldName(pool: string): string {
    return oldDataset(pool, randomUUID());
  }
}
