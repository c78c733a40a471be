// SPDX-License-Identifier: Apache-2.0
// Pools: made, adopted, told of, brought and taken away. Each has a store, the dataset
// <pool>/ringdisk, without which it is no pool of ours.
import { randomUUID } from 'node:crypto';
import { parseNumber } from '../zfs/tables.ts';
import { patiently } from '../zfs/zfs.ts';
import { isZfsError } from '../zfs/zfs_error.ts';
import type { PoolRow } from '../zfs/zpool.ts';
import type { Context } from './context.ts';
import { explained } from './failures.ts';
import {
  type AdoptPool,
  type DeviceState,
  type ImportablePool,
  type ImportPool,
  ManagerError,
  type PoolInfo,
  type PoolMetadata,
} from './manager_types.ts';
import { storeOf } from './names.ts';
import { checkedReserve } from './pool_plan.ts';
import {
  decodeRecord,
  decodeText,
  encodeRecord,
  encodeText,
  PROPERTY,
  textsOf,
} from './properties.ts';
import { reservedIn, setShare, topUp } from './reserve.ts';
import { changedKeys } from './wishes.ts';

const STORE_ASKED = [
  'used',
  'available',
  'reservation',
  'usedbychildren',
  PROPERTY.uuid,
  PROPERTY.name,
  PROPERTY.description,
  PROPERTY.keys,
  PROPERTY.owned,
];

/** Guests' partitions are none of dom0's business: volmode. */
export const STORE_SETTINGS = { mountpoint: 'none', canmount: 'off', volmode: 'dev' } as const;

export async function listPools(context: Context, all = false): Promise<PoolInfo[]> {
  const rows = await explained('pool', 'the pools cannot be listed', () => context.zpool.list());
  const infos = await Promise.all(rows.map((row) => poolInfo(context, row)));
  // Whether one that does no I/O has a store cannot be told, so it is not left out.
  return all ? infos : infos.filter(({ store, state }) => store !== undefined || isDown(state));
}

export function isDown(state: string): boolean {
  return state === 'SUSPENDED' || state === 'UNAVAIL';
}

/** Any imported pool, with a store or without. */
export async function findPool(context: Context, pool: string): Promise<PoolRow | undefined> {
  const rows = await explained('pool', 'the pools cannot be listed', () => context.zpool.list());
  return rows.find(({ name, guid }) => name === pool || guid === pool);
}

export async function needPool(context: Context, pool: string): Promise<PoolRow> {
  const row = await findPool(context, pool);
  if (row) return row;
  throw new ManagerError('POOL_UNKNOWN', `there is no pool ${pool} here; is it imported?`);
}

export async function statPool(context: Context, pool: string): Promise<PoolInfo> {
  const row = await needPool(context, pool);
  refuseSuspended(row);
  const info = await poolInfo(context, row);
  refuseSuspended({ ...row, health: info.state });
  if (info.store) return info;
  throw new ManagerError(
    'POOL_UNKNOWN',
    `the pool ${pool} has no store of ringdisk's: ringdisk pool adopt ${pool} makes one in it`,
  );
}

/** Throws POOL_SUSPENDED before anything is asked that would wait for its disks. */
export function refuseSuspended({ name, health }: PoolRow): void {
  if (!isDown(health)) return;
  throw new ManagerError(
    'POOL_SUSPENDED',
    `the pool ${name} does no I/O, since too many of its disks are gone: bring them back, then ` +
      `ringdisk pool clear ${name}`,
  );
}

export async function poolInfo(context: Context, row: PoolRow): Promise<PoolInfo> {
  const base = {
    pool: row.name,
    guid: row.guid,
    state: row.health as DeviceState,
    fragmentation: row.fragmentation,
    capacity: row.capacity,
    readOnly: row.readOnly,
  };
  const none = { freeBytes: 0, usedBytes: 0, totalBytes: 0, reservedBytes: 0 };
  if (isDown(row.health)) return { ...base, ...none };
  try {
    return { ...base, ...(await space(context, row)) };
  } catch (error) {
    // Since it was listed.
    if (!(error instanceof ManagerError && error.code === 'POOL_SUSPENDED')) throw error;
    return { ...base, state: 'SUSPENDED', ...none };
  }
}

async function space(context: Context, row: PoolRow) {
  return explained('pool', `the pool ${row.name} cannot be read`, async () => {
    const root = await context.zfs.get(row.name, { properties: ['used', 'available'] });
    const own = root.get(row.name);
    const [used, free] = ['used', 'available'].map(
      (name) => parseNumber(own?.get(name)?.value) ?? 0,
    );
    const reservedBytes = await reservedIn(context.zfs, row.name);
    const store = await storeInfo(context, row.name);
    return {
      ...(store && { store }),
      freeBytes: free ?? 0,
      usedBytes: Math.max((used ?? 0) - reservedBytes, 0),
      totalBytes: (used ?? 0) + (free ?? 0),
      reservedBytes,
    };
  });
}

async function storeInfo(context: Context, pool: string): Promise<PoolInfo['store'] | undefined> {
  const dataset = storeOf(pool);
  try {
    const found = (await context.zfs.get(dataset, { properties: STORE_ASKED })).get(dataset);
    const own = (name: string) => {
      const property = found?.get(name);
      return property?.source === 'local' || property?.source === 'received'
        ? property.value
        : undefined;
    };
    const uuid = own(PROPERTY.uuid);
    if (uuid === undefined) return undefined;
    return {
      uuid,
      name: decodeText(own(PROPERTY.name) ?? ''),
      description: decodeText(own(PROPERTY.description) ?? ''),
      dataset,
      owned: own(PROPERTY.owned) === 'on',
      keys: textsOf(decodeRecord(own(PROPERTY.keys), dataset)),
    };
  } catch (error) {
    if (isZfsError(error, 'unknown')) return undefined;
    throw error;
  }
}

/** A call that dies in this is finished by the next one with the same words. */
export async function makeStore(context: Context, wish: AdoptPool, owned: boolean): Promise<void> {
  const { pool, uuid = randomUUID(), name = pool, description = '' } = wish;
  const settings = {
    ...STORE_SETTINGS,
    [PROPERTY.uuid]: uuid,
    [PROPERTY.name]: encodeText(name),
    [PROPERTY.description]: encodeText(description),
    [PROPERTY.keys]: encodeRecord({}),
    [PROPERTY.owned]: owned ? 'on' : 'off',
  };
  await explained('pool', `the store in ${pool} cannot be made`, async () => {
    if (await context.zfs.exists(storeOf(pool))) await context.zfs.set(storeOf(pool), settings);
    else await context.zfs.createFilesystem(storeOf(pool), settings);
  });
  await setShare(context.zfs, pool, wish.reserve ?? 0);
}

/** The pool itself is left as it is. */
export async function adoptPool(context: Context, wish: AdoptPool): Promise<PoolInfo> {
  checkedReserve(wish.reserve);
  const row = await needPool(context, wish.pool);
  refuseSuspended(row);
  const pool = row.name;
  return context.alone(pool, async () => {
    if (await storeInfo(context, pool)) {
      throw new ManagerError('POOL_EXISTS', `the pool ${pool} has a store already`);
    }
    await makeStore(context, { ...wish, pool }, false);
    return statPool(context, pool);
  });
}

export async function setReserve(
  context: Context,
  pool: string,
  percent: number,
): Promise<PoolInfo> {
  checkedReserve(percent);
  const info = await statPool(context, pool);
  return context.alone(info.pool, async () => {
    await setShare(context.zfs, info.pool, percent);
    return statPool(context, info.pool);
  });
}

export async function setPoolMetadata(
  context: Context,
  pool: string,
  change: PoolMetadata,
): Promise<PoolInfo> {
  return context.alone(pool, async () => {
    const { store } = await statPool(context, pool);
    const settings: Record<string, string> = {};
    if (change.name !== undefined) settings[PROPERTY.name] = encodeText(change.name);
    if (change.description !== undefined) {
      settings[PROPERTY.description] = encodeText(change.description);
    }
    if (change.keys) {
      settings[PROPERTY.keys] = encodeRecord(changedKeys(store?.keys ?? {}, change.keys));
    }
    await explained('pool', `the store of ${pool} cannot be changed`, () =>
      context.zfs.set(storeOf(pool), settings),
    );
    return statPool(context, pool);
  });
}

export async function importablePools(
  context: Context,
  dirs: string[] = [],
): Promise<ImportablePool[]> {
  return explained('pool', 'disks cannot be searched for pools', () =>
    context.zpool.importable(dirs),
  );
}

export async function importPool(
  context: Context,
  guid: string,
  options: ImportPool = {},
): Promise<PoolInfo> {
  if (!/^\d{1,20}$/.test(guid)) {
    throw new ManagerError('NAME_INVALID', `${JSON.stringify(guid)} is no GUID of a pool`);
  }
  const here = await findPool(context, guid);
  if (!here) {
    await explained('pool', `the pool ${guid} cannot be imported`, () =>
      context.zpool.import(guid, options),
    );
  }
  const info = await poolInfo(context, await needPool(context, guid));
  if (info.store) {
    await context.changeStore(info.pool, async (store) => {
      await store.finish();
      await topUp(context.zfs, info.pool);
    });
  }
  return info;
}

/** Done also where there is none. */
export async function exportPool(context: Context, pool: string): Promise<void> {
  const row = await findPool(context, pool);
  if (!row) return;
  await context.alone(row.name, () =>
    explained('pool', `the pool ${row.name} cannot be exported`, () =>
      patiently(() => context.zpool.change(['export', row.name])),
    ),
  );
}

export async function destroyPool(context: Context, pool: string): Promise<void> {
  const info = await statPool(context, pool);
  const doing = `the pool ${info.pool} cannot be destroyed`;
  await context.alone(info.pool, async () => {
    const datasets = await explained('pool', doing, () =>
      context.zfs.list(info.pool, 'filesystem,volume'),
    );
    const store = storeOf(info.pool);
    const foreign = datasets.filter(
      (name) => name !== info.pool && name !== store && !name.startsWith(`${store}/`),
    );
    if (info.store?.owned && foreign.length > 0) {
      throw new ManagerError('POOL_FOREIGN', `${doing}: it has ${foreign[0]} as well`);
    }
    await explained('pool', doing, async () => {
      if (info.store?.owned) await context.zpool.change(['destroy', info.pool]);
      else await context.zfs.destroyTree(store);
    });
  });
}
