// SPDX-License-Identifier: Apache-2.0
// The store of a pool as it is in ZFS: read anew for every question, finished where a call before
// has died. Nothing of it is kept in memory but where a key was seen last.
import { randomUUID } from 'node:crypto';
import type { Logger } from '../log.ts';
import { patiently, type Zfs } from '../zfs/zfs.ts';
import { explained } from './failures.ts';
import { ManagerError } from './manager_types.ts';
import { checkKey, checkPoolName, oldDataset, storeOf } from './names.ts';
import { ASKED, type DatasetRecord, isVisible, toRecord } from './records.ts';
import { TogetherReads } from './together.ts';
import { isBetweenTwo, type Step, unfinishedSteps } from './unfinished.ts';

const TYPES = 'filesystem,volume,snapshot,bookmark';
/** A pass makes others possible: promotions, mostly. No store needs as many. */
const PASSES_MAX = 100;
/** What could not be done is tried again by the first call after that. */
const RETRY_MS = 30_000;

/** A volume is neither what it was nor what it is to be: of those who ask, nobody must be told. */
export class BetweenTwoError extends ManagerError {
  constructor(pool: string) {
    super('ZFS_FAILED', `a volume of ${pool} is being exchanged, and that has not ended`);
  }
}

export class Store {
  readonly pool: string;
  readonly #zfs: Zfs;
  readonly #log: Logger;
  readonly #reads: TogetherReads;
  /** Snapshots of ours that are in use: they look as if they had been left. */
  readonly kept = new Set<string>();
  /** From when on something may be left to do; undefined: nothing is. */
  #dirtyFrom: number | undefined = 0;
  /** By key: a hint, believed only when what is there has that key. */
  readonly #seen = new Map<string, string>();

  constructor(pool: string, zfs: Zfs, log: Logger) {
    this.pool = checkPoolName(pool);
    this.#zfs = zfs;
    this.#reads = new TogetherReads(zfs, ASKED);
    this.#log = log;
  }

  /** Something may be left to do: nobody has looked yet, or a call has failed. */
  get isDirty(): boolean {
    return this.#dirtyFrom !== undefined && performance.now() >= this.#dirtyFrom;
  }

  markDirty(): void {
    this.#dirtyFrom = 0;
  }

  /** All of it. Throws where ZFS does not tell, and BetweenTwoError. */
  async read(): Promise<DatasetRecord[]> {
    const records = await this.#readOnce();
    if (isBetweenTwo(records)) throw new BetweenTwoError(this.pool);
    return records;
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

  /**
   * What calls before have left to do; what cannot be done now stays for the next one. Whoever
   * calls has the pool to himself.
   */
  async finish(): Promise<void> {
    this.markDirty();
    const tried = new Set<string>();
    let failed = 0;
    for (let pass = 0; pass < PASSES_MAX; pass++) {
      const steps = unfinishedSteps(await this.#readOnce());
      const fresh = steps.filter((step) => !this.#isKept(step) && !tried.has(JSON.stringify(step)));
      if (fresh.length === 0) {
        this.#dirtyFrom = failed > 0 ? performance.now() + RETRY_MS : undefined;
        return;
      }
      for (const step of fresh) tried.add(JSON.stringify(step));
      failed += await this.#carryOut(fresh);
    }
  }

  #isKept(step: Step): boolean {
    return 'dataset' in step && this.kept.has(step.dataset);
  }

  async #findWhereSeen(key: string): Promise<DatasetRecord | undefined> {
    const dataset = this.#seen.get(key) ?? `${storeOf(this.pool)}/${key}`;
    try {
      return await explained('volume', `${dataset} cannot be read`, async () => {
        const properties = await this.#reads.read(dataset);
        const record = properties && toRecord(this.pool, dataset, properties);
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
      const records = this.#toRecords(await this.#zfs.get(store, options));
      this.#seen.clear();
      for (const { name, dataset } of records) {
        if (name.role === 'volume' || name.role === 'snapshot') this.#seen.set(name.key, dataset);
      }
      return records;
    });
  }

  #toRecords(found: Awaited<ReturnType<Zfs['get']>>): DatasetRecord[] {
    return [...found].map(([dataset, properties]) => toRecord(this.pool, dataset, properties));
  }

  /** How many steps have failed. */
  async #carryOut(steps: Step[]): Promise<number> {
    let failed = 0;
    for (const step of steps) {
      try {
        await this.#take(step);
      } catch (error) {
        failed++;
        this.#log.warn({ err: error, step, pool: this.pool }, 'left for later');
      }
    }
    return failed;
  }

  async #take(step: Step): Promise<void> {
    switch (step.do) {
      case 'rename':
        return this.#zfs.rename(step.from, step.to);
      case 'identify':
        return this.#zfs.set(step.dataset, step.settings);
      case 'retire':
        return patiently(() => this.#zfs.rename(step.dataset, oldDataset(this.pool, randomUUID())));
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
