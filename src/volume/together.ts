// SPDX-License-Identifier: Apache-2.0
// Datasets that are asked for one by one and read several at a time: while a command runs, those
// who come wait for it and share the next one. So nobody is told what was so before he asked, and
// many callers at once cost ZFS and the host little more than one.
import type { Properties } from '../zfs/tables.ts';
import type { Zfs } from '../zfs/zfs.ts';
import { isZfsError } from '../zfs/zfs_error.ts';

/** Of one command line. */
const DATASETS_MAX = 64;

interface Asked {
  readonly dataset: string;
  tell(properties: Properties | undefined): void;
  fail(error: unknown): void;
}

export class TogetherReads {
  readonly #zfs: Pick<Zfs, 'getSeveral'>;
  readonly #properties: readonly string[];
  readonly #waiting: Asked[] = [];
  #isReading = false;

  constructor(zfs: Pick<Zfs, 'getSeveral'>, properties: readonly string[]) {
    this.#zfs = zfs;
    this.#properties = properties;
  }

  /** undefined: ZFS says nothing of it. Throws as Zfs.get(). */
  read(dataset: string): Promise<Properties | undefined> {
    return new Promise((tell, fail) => {
      this.#waiting.push({ dataset, tell, fail });
      if (!this.#isReading) void this.#readThemAll();
    });
  }

  async #readThemAll(): Promise<void> {
    this.#isReading = true;
    while (this.#waiting.length > 0) await this.#readSome(this.#waiting.splice(0, DATASETS_MAX));
    this.#isReading = false;
  }

  async #readSome(asked: readonly Asked[]): Promise<void> {
    const datasets = [...new Set(asked.map(({ dataset }) => dataset))];
    try {
      const found = await this.#zfs.getSeveral(datasets, this.#properties);
      for (const { dataset, tell } of asked) tell(found.get(dataset));
    } catch (error) {
      // Where one of them is not there, ZFS fails for all.
      const isOne = datasets.length === 1;
      if (isOne || !isZfsError(error, 'unknown')) for (const { fail } of asked) fail(error);
      else await Promise.all(asked.map((one) => this.#readSome([one])));
    }
  }
}
