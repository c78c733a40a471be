// SPDX-License-Identifier: Apache-2.0
// The commands of `zpool` that pools need.
import type { RunCommand } from './command.ts';
import { type Importable, parseImportable } from './importable.ts';
import { parseStatus, type StatusReport } from './pool_status.ts';
import { parseNumber, parseTable } from './tables.ts';
import { isZfsError } from './zfs_error.ts';

const READ_MS = 20_000;
/** Labels of many disks are read, or written. */
const CHANGE_MS = 300_000;

export interface PoolRow {
  name: string;
  guid: string;
  health: string;
  size: number;
  fragmentation: number;
  capacity: number;
  readOnly: boolean;
}

const COLUMNS = ['name', 'guid', 'health', 'size', 'fragmentation', 'capacity', 'readonly'];

export class Zpool {
  readonly #run: RunCommand;

  constructor(run: RunCommand) {
    this.#run = run;
  }

  /** All pools, or one. */
  async list(pool?: string): Promise<PoolRow[]> {
    const args = ['list', '-Hp', '-o', COLUMNS.join(','), ...(pool === undefined ? [] : [pool])];
    const text = await this.#run('zpool', args, { timeoutMs: READ_MS });
    return parseTable(text, COLUMNS.length).map(toRow);
  }

  /** Paths are whole, and links are as they were given. */
  async status(pool: string): Promise<StatusReport> {
    const text = await this.#run('zpool', ['status', '-pP', pool], { timeoutMs: READ_MS });
    return parseStatus(text);
  }

  /** Pools that could be imported, on the host's disks or on what is in `dirs`. */
  async importable(dirs: readonly string[]): Promise<Importable[]> {
    const args = ['import', ...inDirs(dirs)];
    try {
      return parseImportable(await this.#run('zpool', args, { timeoutMs: CHANGE_MS }));
    } catch (error) {
      // ZFS 2.1 fails where there are none.
      if (isZfsError(error, 'other') && /no pools available/.test(error.words)) return [];
      throw error;
    }
  }

  async import(
    guid: string,
    { dirs = [], newName, force }: { dirs?: readonly string[]; newName?: string; force?: boolean },
  ): Promise<void> {
    const args = ['import', '-N', ...inDirs(dirs), ...(force ? ['-f'] : []), guid];
    await this.change(newName === undefined ? args : [...args, newName]);
  }

  /** `zpool` with these arguments; they come from those who have checked them. */
  async change(args: readonly string[]): Promise<void> {
    await this.#run('zpool', args, { timeoutMs: CHANGE_MS });
  }
}

function toRow(fields: string[]): PoolRow {
  const [name = '', guid = '', health = '', size, fragmentation, capacity, readOnly] = fields;
  return {
    name,
    guid,
    health,
    size: parseNumber(size) ?? 0,
    fragmentation: parseNumber(fragmentation) ?? 0,
    capacity: parseNumber(capacity) ?? 0,
    readOnly: readOnly === 'on',
  };
}

function inDirs(dirs: readonly string[]): string[] {
  return dirs.flatMap((dir) => ['-d', dir]);
}
