// SPDX-License-Identifier: Apache-2.0
// Looks at all pools of the host. One that hangs costs the others nothing: what cannot be asked is
// said to be unknown, and why.
import type { Logger } from '../log.ts';
import { statusOf } from '../volume/change_pool.ts';
import { Context } from '../volume/context.ts';
import type { PoolStatus } from '../volume/manager_types.ts';
import { oncePerCommand, type RunCommand } from '../zfs/command.ts';
import { poolStates } from '../zfs/kstat.ts';
import type { PoolRow } from '../zfs/zpool.ts';
import type { PoolKey } from './event_log.ts';

export interface LookedPool extends PoolKey {
  /** ZFS's word, where it is told. */
  state?: string;
  /** Missing: it is unknown. */
  status?: PoolStatus;
  reason?: string;
}

export interface AllPools {
  /** Undefined: these are all pools of the host. Otherwise there may be others. */
  incomplete?: string;
  pools: LookedPool[];
}

export class PoolWatch {
  readonly #context: Context;
  readonly #states: typeof poolStates;

  constructor(run: RunCommand, log: Logger, states = poolStates) {
    // One that hangs would be asked again with each look, until no command is left for others.
    this.#context = new Context(oncePerCommand(run), log);
    this.#states = states;
  }

  /** `known`: pools that were there the last time. Never throws. */
  async look(known: readonly PoolKey[]): Promise<AllPools> {
    let rows: PoolRow[];
    try {
      rows = await this.#context.zpool.list();
    } catch (error) {
      return this.#lookAtEach(known, (error as Error).message);
    }
    return { pools: await Promise.all(rows.map((row) => this.#lookAt(row))) };
  }

  /** One pool can make `zpool list` hang for all. */
  async #lookAtEach(known: readonly PoolKey[], incomplete: string): Promise<AllPools> {
    const states = await this.#states();
    const guids = new Map(known.map(({ pool, guid }) => [pool, guid]));
    const names = new Set([...guids.keys(), ...(states?.keys() ?? [])]);
    const pools = [...names].map(async (pool): Promise<LookedPool> => {
      const state = states?.get(pool);
      const key = { pool, guid: guids.get(pool), ...(state !== undefined && { state }) };
      if (!states) return { ...key, reason: incomplete };
      try {
        const [row] = await this.#context.zpool.list(pool);
        return row ? await this.#lookAt(row) : { ...key, reason: incomplete };
      } catch (error) {
        return { ...key, reason: (error as Error).message };
      }
    });
    return { incomplete, pools: await Promise.all(pools) };
  }

  async #lookAt(row: PoolRow): Promise<LookedPool> {
    const { name: pool, guid, health: state } = row;
    const key = { pool, guid, state };
    if (state === 'SUSPENDED') {
      const reason = `${pool} does no I/O until its disks are back and ringdisk pool clear is run`;
      return { ...key, reason };
    }
    try {
      return { ...key, status: await statusOf(this.#context, row) };
    } catch (error) {
      return { ...key, reason: (error as Error).message };
    }
  }

  /** What `zpool events` prints; undefined: nothing, for whatever reason. */
  async events(verbose: boolean): Promise<string | undefined> {
    const options = { timeoutMs: 10_000 };
    const args = ['events', verbose ? '-Hv' : '-H'];
    return this.#context.run('zpool', args, options).catch(() => undefined);
  }
}
