// SPDX-License-Identifier: Apache-2.0
// The store of a pool as it is in ZFS: read anew for every question, finished where a call before
// has died. Nothing of it is kept in memory but where a key was seen last.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '../log.ts';
import type { Zfs } from '../zfs/zfs.ts';
import { explained } from './failures.ts';
import type { Locks } from './locks.ts';
import { ManagerError } from './manager_types.ts';
import { checkKey, checkPoolName, storeOf } from './names.ts';
import { ASKED, type DatasetRecord, isVisible, toRecord } from './records.ts';
import { isBetweenTwo, type Step, unfinishedSteps } from './unfinished.ts';

const TYPES = 'filesystem,volume,snapshot,bookmark';
/** A pass makes others possible: promotions, mostly. No store needs as many. */
const PASSES_MAX = 100;
const RETRY_MS = 200;
const LOOKS_MAX = 25;

export class Store {
  readonly pool: string;
  readonly #zfs: Zfs;
  readonly #locks: Locks;
  readonly #log: Logger;
  /** By key: a hint, believed only when what is there has that key. */
  readonly #seen = new Map<string, string>();

  constructor(pool: string, zfs: Zfs, locks: Locks, log: Logger) {
    this.pool = checkPoolName(pool);
    this.#zfs = zfs;
    this.#locks = locks;
    this.#log = log;
  }

  /** All of it. Throws where ZFS does not tell, or where it is between two states. */
  async read(): Promise<DatasetRecord[]> {
    for (let looks = 1; ; looks++) {
      const records = await this.#readOnce();
      if (!isBetweenTwo(records)) return records;
      if (looks === LOOKS_MAX) {
        throw new ManagerError(
          'ZFS_FAILED',
          `a volume of ${this.pool} is being reverted, and that has not ended`,
        );
      }
      // Whoever does it has the pool to himself; if nobody does, it is finished here.
      await this.#locks.pool(this.pool, () => this.finish());
      if (looks > 1) await sleep(RETRY_MS);
    }
  }

  /** A visible volume or snapshot, alone; undefined: there is none with that key. */
  async find(key: string): Promise<DatasetRecord | undefined> {
    checkKey(key);
    return (await this.#findWhereSeen(key)) ?? (await this.#findAnywhere(key));
  }

  /** As find(), or VOLUME_UNKNOWN. */
  async need(key: string): Promise<DatasetRecord> {
    const record = await this.find(key);
    if (record) return record;
    throw new ManagerError('VOLUME_UNKNOWN', `there is no volume ${key} in the pool ${this.pool}`);
  }

  /** What calls before have left to do. Whoever calls has the pool to himself. */
  async finish(): Promise<void> {
    const tried = new Set<string>();
    for (let pass = 0; pass < PASSES_MAX; pass++) {
      const steps = unfinishedSteps(await this.#readOnce());
      const fresh = steps.filter((step) => !tried.has(JSON.stringify(step)));
      if (fresh.length === 0) return;
      for (const step of fresh) tried.add(JSON.stringify(step));
      await this.#carryOut(fresh);
    }
  }

  async #findWhereSeen(key: string): Promise<DatasetRecord | undefined> {
    const dataset = this.#seen.get(key) ?? `${storeOf(this.pool)}/${key}`;
    try {
      return await explained('volume', `${dataset} cannot be read`, async () => {
        const [record] = this.#toRecords(await this.#get(dataset, { properties: ASKED }));
        return record && isVisible(record) ? record : undefined;
      });
    } catch (error) {
      if (error instanceof ManagerError && error.code === 'VOLUME_UNKNOWN') return undefined;
      throw error;
    }
  }

  async #findAnywhere(key: string): Promise<DatasetRecord | undefined> {
    const records = await this.read();
    return records.find((record) => record.name.key === key && isVisible(record));
  }

  async #readOnce(): Promise<DatasetRecord[]> {
    const store = storeOf(this.pool);
    return explained('pool', `the store ${store} cannot be read`, async () => {
      const options = { properties: ASKED, recursive: true, types: TYPES };
      const records = this.#toRecords(await this.#get(store, options));
      this.#seen.clear();
      for (const { name, dataset } of records) {
        if (name.role === 'volume' || name.role === 'snapshot') this.#seen.set(name.key, dataset);
      }
      return records;
    });
  }

  #get(dataset: string, options: Parameters<Zfs['get']>[1]) {
    return this.#zfs.get(dataset, options);
  }

  #toRecords(found: Awaited<ReturnType<Zfs['get']>>): DatasetRecord[] {
    return [...found].map(([dataset, properties]) => toRecord(this.pool, dataset, properties));
  }

  async #carryOut(steps: Step[]): Promise<void> {
    for (const step of steps) {
      try {
        await this.#take(step);
      } catch (error) {
        // It is tried again by the next call that has the pool to itself: what is open, say.
        this.#log.warn({ err: error, step, pool: this.pool }, 'left for later');
      }
    }
  }

  async #take(step: Step): Promise<void> {
    switch (step.do) {
      case 'rename':
        return this.#zfs.renameZvol(step.from, step.to);
      case 'destroy':
        return this.#zfs.destroy(step.dataset);
      case 'defer':
        return this.#zfs.destroyDeferred(step.dataset);
      case 'promote':
        return this.#zfs.promote(step.dataset);
      case 'rollback':
        return this.#zfs.rollback(step.dataset);
      case 'unreserve':
        return this.#zfs.set(step.dataset, { refreservation: 'none' });
    }
  }
}
