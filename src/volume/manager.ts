// SPDX-License-Identifier: Apache-2.0
// The manager of volumes as its callers see it: the interface of manager_types.ts, over ZFS.
import type { Logger } from '../log.ts';
import { type RunCommand, runCommand } from '../zfs/command.ts';
import { destroyData } from './bookmarks.ts';
import { clearPool, expandPool, poolStatus, scrubPool, trimPool } from './change_pool.ts';
import { changedBlocks } from './changed_blocks.ts';
import { Context } from './context.ts';
import { createPool, finishPool, planPool } from './create_pool.ts';
import { exposeSnapshot, hideSnapshot } from './exposure.ts';
import { ManagerError, type VolumeInfo, type VolumeManager } from './manager_types.ts';
import { storeOf } from './names.ts';
import * as pools from './pools.ts';
import { replaceVolume } from './replace.ts';
import { topUp } from './reserve.ts';
import { revertVolume } from './revert.ts';
import * as volumes from './volumes.ts';

type Tail<T> = T extends (context: Context, ...rest: infer R) => infer Result
  ? (...rest: R) => Result
  : never;

/** Finishes what a manager before has left, then answers. */
export async function openManager(
  log: Logger,
  run: RunCommand = runCommand,
): Promise<VolumeManager> {
  return makeManager(await openContext(log, run));
}

/** For those who share its turns. */
export async function openContext(log: Logger, run: RunCommand = runCommand): Promise<Context> {
  const context = new Context(run, log);
  await finishAll(context);
  return context;
}

/** A pool that cannot be read now says so when it is asked for. */
async function finishAll(context: Context): Promise<void> {
  let rows: Awaited<ReturnType<typeof context.zpool.list>> = [];
  try {
    rows = await context.zpool.list();
  } catch (error) {
    context.log.warn({ err: error }, 'the pools cannot be listed');
  }
  for (const { name, health } of rows) {
    if (pools.isDown(health)) continue;
    try {
      await context.alone(name, async () => {
        await finishPool(context, name);
        if (!(await context.zfs.exists(storeOf(name)))) return;
        await context.store(name).finish();
        await topUp(context.zfs, name);
      });
    } catch (error) {
      context.log.warn({ err: error, pool: name }, 'what a call before has left stays so for now');
    }
  }
}

export function makeManager(context: Context): VolumeManager {
  const bound =
    <F extends (context: Context, ...rest: never[]) => unknown>(body: F) =>
    (...rest: never[]) =>
      body(context, ...rest);
  const of = <F extends (context: Context, ...rest: never[]) => unknown>(body: F) =>
    bound(body) as Tail<F>;
  /** Of one pool: it is there, and does I/O. */
  const inPool = <F extends (context: Context, pool: string, ...rest: never[]) => unknown>(
    body: F,
  ) =>
    (async (pool: string, ...rest: never[]) => {
      const row = await pools.needPool(context, pool);
      pools.refuseSuspended(row);
      return body(context, row.name, ...rest);
    }) as Tail<F>;
  return {
    planPool: of(planPool),
    createPool: of(createPool),
    adoptPool: of(pools.adoptPool),
    listPools: of(pools.listPools),
    statPool: of(pools.statPool),
    poolStatus: of(poolStatus),
    importablePools: of(pools.importablePools),
    importPool: of(pools.importPool),
    exportPool: of(pools.exportPool),
    destroyPool: of(pools.destroyPool),
    setPoolMetadata: inPool(pools.setPoolMetadata),
    setReserve: inPool(pools.setReserve),
    expandPool: of(expandPool),
    scrubPool: of(scrubPool),
    trimPool: of(trimPool),
    clearPool: of(clearPool),
    listVolumes: (pool) => listVolumes(context, pool),
    statVolume: (pool, key) => statVolume(context, pool, key),
    createVolume: (wish) =>
      inPool((_, pool: string) => volumes.createVolume(context, { ...wish, pool }))(wish.pool),
    snapshotVolume: inPool(volumes.snapshotVolume),
    cloneVolume: inPool(volumes.cloneVolume),
    destroyVolume: inPool(volumes.destroyVolume),
    renameVolume: inPool(volumes.renameVolume),
    resizeVolume: inPool(volumes.resizeVolume),
    revertVolume: inPool(revertVolume),
    replaceVolume: inPool(replaceVolume),
    importVolume: (wish) =>
      inPool((_, pool: string) => volumes.importVolume(context, { ...wish, pool }))(wish.pool),
    setVolumeProperties: inPool(volumes.setVolumeProperties),
    setVolumeMetadata: inPool(volumes.setVolumeMetadata),
    exposeSnapshot: inPool(exposeSnapshot),
    hideSnapshot: inPool(hideSnapshot),
    destroyData: inPool(destroyData),
    changedBlocks: inPool(changedBlocks),
    loadKey: inPool(volumes.loadKey),
    unloadKey: inPool(volumes.unloadKey),
  };
}

async function listVolumes(context: Context, pool?: string): Promise<VolumeInfo[]> {
  if (pool !== undefined) {
    const row = await pools.needPool(context, pool);
    pools.refuseSuspended(row);
    return volumes.listVolumes(context, row.name);
  }
  const all = await pools.listPools(context, true);
  const suspended = all.find(({ state }) => pools.isDown(state));
  if (suspended) {
    throw new ManagerError(
      'POOL_SUSPENDED',
      `the pool ${suspended.pool} does no I/O: what is in it cannot be told`,
    );
  }
  const withStore = all.filter(({ store }) => store !== undefined);
  const lists = await Promise.all(
    withStore.map(({ pool: name }) => volumes.listVolumes(context, name)),
  );
  return lists.flat();
}

/** Asked most: one command where all is well. Why not is found out afterwards. */
async function statVolume(context: Context, pool: string, key: string): Promise<VolumeInfo> {
  try {
    return await volumes.statVolume(context, pool, key);
  } catch (error) {
    if (!(error instanceof ManagerError) || !WHY.includes(error.code)) throw error;
    const row = await pools.needPool(context, pool);
    pools.refuseSuspended(row);
    if (row.name === pool) throw error;
    return volumes.statVolume(context, row.name, key);
  }
}

const WHY: string[] = ['VOLUME_UNKNOWN', 'POOL_UNKNOWN', 'NAME_INVALID', 'ZFS_TIMEOUT'];
