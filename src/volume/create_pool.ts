// SPDX-License-Identifier: Apache-2.0
// A pool from plain words. `zpool create` writes down in the pool what its store is to be, so that
// whoever comes after a death makes it.
import { randomUUID } from 'node:crypto';
import * as v from 'valibot';
import type { Context } from './context.ts';
import { Disks, imaginedDisks } from './disks.ts';
import { explained } from './failures.ts';
import {
  type CreatePool,
  ManagerError,
  type PoolInfo,
  type PoolLayout,
  type PoolPlan,
} from './manager_types.ts';
import { checkPoolName } from './names.ts';
import { checkedReserve, type PlannedDisk, planOf, RESERVE_DEFAULT } from './pool_plan.ts';
import { findPool, makeStore, statPool } from './pools.ts';
import { decodeRecord, encodeRecord } from './properties.ts';

const MAKING = 'ringdisk:making';
const MakingSchema = v.object({
  uuid: v.string(),
  name: v.string(),
  description: v.string(),
  reserve: v.number(),
});

export async function planPool(
  context: Context,
  wish: PoolLayout & { reserve?: number },
): Promise<PoolPlan> {
  const named = await namedDisks(context, wish, true);
  return planOf({ pool: 'POOL', settings: settingsOf(undefined), ...named });
}

export async function createPool(context: Context, wish: CreatePool): Promise<PoolInfo> {
  const pool = checkPoolName(wish.pool);
  checkedReserve(wish.reserve);
  return context.alone(pool, async () => {
    if (await findPool(context, pool)) {
      throw new ManagerError('POOL_EXISTS', `there is a pool ${pool} already`);
    }
    const named = await namedDisks(context, wish, false);
    const making = {
      uuid: wish.uuid ?? randomUUID(),
      name: wish.name ?? pool,
      description: wish.description ?? '',
      reserve: wish.reserve ?? RESERVE_DEFAULT,
    };
    const settings = [...settingsOf(wish.compression), '-O', `${MAKING}=${encodeRecord(making)}`];
    const plan = planOf({ pool, settings, ...named });
    const disks = new Disks(context.run);
    // All are looked at before the first is wiped.
    const names = [...named.disks.keys()];
    if (wish.wipe) for (const disk of names) await disks.refuseUsed(disk);
    for (const disk of names) await disks.prepare(disk, wish.wipe === true);
    await explained('pool', `the pool ${pool} cannot be made`, () =>
      context.zpool.change(plan.command.slice(1)),
    );
    await finishPool(context, pool);
    return statPool(context, pool);
  });
}

/** Makes the store of a pool whose maker has died. Whoever calls has the pool to himself. */
export async function finishPool(context: Context, pool: string): Promise<void> {
  const found = await explained('pool', `the pool ${pool} cannot be read`, () =>
    context.zfs.get(pool, { properties: [MAKING] }),
  );
  const value = found.get(pool)?.get(MAKING)?.value;
  if (value === undefined) return;
  const making = v.parse(MakingSchema, decodeRecord(value, pool));
  await makeStore(context, { pool, ...making }, true);
  await explained('pool', `the pool ${pool} cannot be changed`, () =>
    context.zfs.inherit(pool, MAKING),
  );
}

function settingsOf(compression = 'lz4'): string[] {
  if (!/^[a-z0-9-]{1,16}$/.test(compression)) {
    throw new ManagerError('PROPERTY_INVALID', `compression cannot be ${compression}`);
  }
  return ['-O', `compression=${compression}`, '-O', 'mountpoint=none', '-O', 'atime=off'];
}

/** Disks by names that stay, and imagined ones spelled out. */
async function namedDisks<T extends PoolLayout>(context: Context, wish: T, mayImagine: boolean) {
  const disks = new Disks(context.run);
  const known = new Map<string, PlannedDisk>();
  const name = async (list: string[] = []): Promise<string[]> => {
    const names: string[] = [];
    for (const word of list) {
      const imagined = mayImagine ? imaginedDisks(word, known.size + 1) : [];
      const path = await disks.stableName(word);
      const found = imagined.length > 0 ? imagined : [await disks.look(path)];
      for (const disk of found) known.set(disk.path, disk);
      names.push(...found.map((disk) => disk.path));
    }
    return names;
  };
  const named = {
    ...wish,
    disks: await name(wish.disks),
    log: await name(wish.log),
    cache: await name(wish.cache),
    special: await name(wish.special),
    spare: await name(wish.spare),
  };
  return { wish: named, disks: known };
}
