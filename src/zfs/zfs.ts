// SPDX-License-Identifier: Apache-2.0
// The commands of `zfs` that volumes need. Each is atomic in ZFS: it has happened, or it has not.
import { setTimeout as sleep } from 'node:timers/promises';
import type { RunCommand } from './command.ts';
import { type Properties, parseProperties, parseTable } from './tables.ts';
import { isZfsError } from './zfs_error.ts';

/** Reads may be many lines; changes wait for ZFS's transaction groups, which a busy pool delays. */
const READ_MS = 30_000;
const CHANGE_MS = 120_000;
const PATIENCE_MS = 3000;
const RETRY_MS = 100;

export interface GetOptions {
  properties: readonly string[];
  recursive?: boolean;
  types?: string;
}

/** Properties to set, as they stand on the command line. */
export type Settings = Record<string, string>;

export interface CreateZvol {
  dataset: string;
  size: number;
  sparse: boolean;
  settings: Settings;
  key?: Buffer | undefined;
}

export class Zfs {
  readonly #run: RunCommand;

  constructor(run: RunCommand) {
    this.#run = run;
  }

  /** Throws ZfsError 'unknown' where there is no such dataset. */
  async get(dataset: string, options: GetOptions): Promise<Map<string, Properties>> {
    const { properties, recursive = false, types } = options;
    const args = ['get', '-Hp', '-o', 'name,property,value,source'];
    if (recursive) args.push('-r');
    if (types !== undefined) args.push('-t', types);
    args.push(properties.join(','), dataset);
    return parseProperties(await this.#run('zfs', args, { timeoutMs: READ_MS }));
  }

  /** Datasets alone, without what is below them. Throws as get() where one of them is not there. */
  async getSeveral(
    datasets: readonly string[],
    properties: readonly string[],
  ): Promise<Map<string, Properties>> {
    const args = ['get', '-Hp', '-o', 'name,property,value,source', properties.join(',')];
    return parseProperties(await this.#run('zfs', [...args, ...datasets], { timeoutMs: READ_MS }));
  }

  async exists(dataset: string): Promise<boolean> {
    try {
      await this.#run('zfs', ['list', '-H', '-o', 'name', dataset], { timeoutMs: READ_MS });
      return true;
    } catch (error) {
      if (isZfsError(error, 'unknown')) return false;
      throw error;
    }
  }

  /** Names of one type at or below a dataset. */
  async list(dataset: string, type: string): Promise<string[]> {
    const args = ['list', '-H', '-r', '-o', 'name', '-t', type, dataset];
    const text = await this.#run('zfs', args, { timeoutMs: READ_MS });
    return parseTable(text, 1).map(([name = '']) => name);
  }

  async createFilesystem(dataset: string, settings: Settings): Promise<void> {
    await this.#change(['create', ...flags(settings), dataset]);
  }

  async createZvol({ dataset, size, sparse, settings, key }: CreateZvol): Promise<void> {
    const kind = sparse ? ['-s'] : [];
    const args = ['create', ...kind, '-V', String(size), ...flags(settings), dataset];
    await this.#change(args, key);
  }

  async snapshot(snapshot: string, settings: Settings): Promise<void> {
    await this.#change(['snapshot', ...flags(settings), snapshot]);
  }

  async clone(snapshot: string, dataset: string, settings: Settings): Promise<void> {
    await this.#change(['clone', ...flags(settings), snapshot, dataset]);
  }

  async promote(dataset: string): Promise<void> {
    await this.#change(['promote', dataset]);
  }

  async rename(dataset: string, newName: string): Promise<void> {
    await this.#change(['rename', dataset, newName]);
  }

  /** Only to its newest snapshot. */
  async rollback(snapshot: string): Promise<void> {
    await patiently(() => this.#change(['rollback', snapshot]));
  }

  async set(dataset: string, settings: Settings): Promise<void> {
    if (Object.keys(settings).length === 0) return;
    const pairs = Object.entries(settings).map(([name, value]) => `${name}=${value}`);
    await this.#change(['set', ...pairs, dataset]);
  }

  /** Takes a setting of its own away. */
  async inherit(dataset: string, property: string): Promise<void> {
    await this.#change(['inherit', property, dataset]);
  }

  /** Done also where there is none. */
  async destroy(dataset: string): Promise<void> {
    await this.#gone(['destroy', dataset]);
  }

  /** Now, or when its last clone and hold are gone. */
  async destroyDeferred(snapshot: string): Promise<void> {
    await this.#gone(['destroy', '-d', snapshot]);
  }

  /** All of it, with everything below and with clones elsewhere in `dataset`. */
  async destroyTree(dataset: string): Promise<void> {
    await this.#gone(['destroy', '-R', dataset]);
  }

  async bookmark(snapshot: string, bookmark: string): Promise<void> {
    await this.#change(['bookmark', snapshot, bookmark]);
  }

  async loadKey(dataset: string, key: Buffer): Promise<void> {
    await this.#change(['load-key', '-L', 'prompt', dataset], key);
  }

  async unloadKey(dataset: string): Promise<void> {
    await patiently(() => this.#change(['unload-key', dataset]));
  }

  async #change(args: string[], input?: Buffer): Promise<void> {
    await this.#run('zfs', args, { timeoutMs: CHANGE_MS, ...(input && { input }) });
  }

  async #gone(args: string[]): Promise<void> {
    try {
      await patiently(() => this.#change(args));
    } catch (error) {
      if (!isZfsError(error, 'unknown')) throw error;
    }
  }
}

/** udev looks at a zvol whenever it was written to and closed: then it is busy for a moment. */
export async function patiently(body: () => Promise<void>): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  for (;;) {
    try {
      return await body();
    } catch (error) {
      if (!isZfsError(error, 'busy') || performance.now() > deadline) throw error;
      await sleep(RETRY_MS);
    }
  }
}

function flags(settings: Settings): string[] {
  return Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
}
