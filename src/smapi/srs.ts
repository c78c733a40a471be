// SPDX-License-Identifier: Apache-2.0
// The volume plugin's methods about SRs. An SR is a pool with a store; its name for XAPI is the
// pool's.
import {
  ManagerError,
  type PoolInfo,
  type VolumeInfo,
  type VolumeManager,
} from '../volume/manager_types.ts';
import type { Disks } from './disks.ts';
import { backendFailure, SmapiError } from './errors.ts';
import type { SmapiProbeResult, SmapiSrStat, VolumeHandlers } from './schema.ts';
import { defaultsToKeep, missingDevice, readFlag, readLayout, readNumber } from './sr_config.ts';
import { isTransient, toVolumes } from './volumes.ts';

type SrCalls = {
  [M in keyof VolumeHandlers as M extends `SR.${string}` ? M : never]: VolumeHandlers[M];
};
type Configuration = Record<string, string>;
type Create = Parameters<VolumeHandlers['SR.create']>[0];

interface SrServices {
  readonly manager: VolumeManager;
  readonly disks: Disks;
}

export function srCalls(services: SrServices): SrCalls {
  const { manager } = services;
  return {
    'SR.probe': ({ configuration }) => probe(manager, configuration),
    'SR.create': async (wish) => {
      const { pool, guid } = await create(manager, wish);
      return { pool, guid };
    },
    'SR.attach': ({ configuration }) => attach(services, configuration),
    'SR.detach': async ({ sr }) => {
      await detach(manager, sr);
      return null;
    },
    'SR.destroy': async ({ sr }) => {
      await manager.destroyPool(sr);
      return null;
    },
    'SR.stat': ({ sr }) => statSr(manager, sr),
    // All of them, or a failure: XAPI forgets at once what is missing here. But for what was never
    // its own: snapshots that come and go with a replication job.
    'SR.ls': async ({ sr }) => toVolumes(await manager.listVolumes(sr)),
    'SR.set_name': async ({ sr, new_name }) => {
      await manager.setPoolMetadata(sr, { name: new_name });
      return null;
    },
    'SR.set_description': async ({ sr, new_description }) => {
      await manager.setPoolMetadata(sr, { description: new_description });
      return null;
    },
  };
}

/** Done before for the same SR, it is done. */
async function create(manager: VolumeManager, wish: Create): Promise<PoolInfo> {
  const { uuid, name, description, configuration } = wish;
  const layout = readLayout(configuration);
  const named = configuration['pool'];
  if (!layout && named === undefined) throw missingDevice();
  const pool = named ?? `sr-${uuid.slice(0, 8)}`;
  const keys = defaultsToKeep(configuration);
  const reserve = readNumber(configuration, 'reserve', 0, 90);
  const all = { pool, uuid, name, description, ...(reserve !== undefined && { reserve }) };
  try {
    if (layout) await manager.createPool({ ...all, ...layout, ...howToMake(configuration) });
    else await manager.adoptPool(all);
  } catch (error) {
    const isThere = error instanceof ManagerError && error.code === 'POOL_EXISTS';
    const known = isThere ? await manager.statPool(pool) : undefined;
    if (known?.store?.uuid !== uuid) throw error;
  }
  return manager.setPoolMetadata(pool, { keys });
}

function howToMake(configuration: Configuration) {
  const wipe = readFlag(configuration, 'wipe');
  const { compression } = configuration;
  return { ...(wipe !== undefined && { wipe }), ...(compression && { compression }) };
}

/** A pool that another host has used is imported; one that is here already is just told. */
async function attach(
  { manager, disks }: SrServices,
  configuration: Configuration,
): Promise<string> {
  const { guid, pool } = configuration;
  const found = await findPool(manager, guid ?? pool);
  if (!found.store) {
    throw new SmapiError('SR_does_not_exist', [`${found.pool} is a pool, and no SR`]);
  }
  await destroyTransients(manager, disks, found.pool);
  return found.pool;
}

async function findPool(manager: VolumeManager, name: string | undefined): Promise<PoolInfo> {
  if (name === undefined || name === '') throw missingDevice();
  try {
    return await manager.statPool(name);
  } catch (error) {
    if (!(error instanceof ManagerError && error.code === 'POOL_UNKNOWN')) throw error;
  }
  const importable = await manager.importablePools();
  const [match, ...more] = importable.filter(({ guid, pool }) => guid === name || pool === name);
  if (!match) throw new SmapiError('SR_does_not_exist', [name]);
  if (more.length > 0) throw backendFailure(47, `several pools are called ${name}: say guid=`);
  return manager.importPool(match.guid);
}

/** What a host's crash has left of VMs that keep nothing. */
async function destroyTransients(manager: VolumeManager, disks: Disks, pool: string) {
  const used = new Set(disks.all().map(([, { transient }]) => transient));
  const left = (await manager.listVolumes(pool)).filter(
    (info: VolumeInfo) => isTransient(info) && !used.has(info.key),
  );
  for (const { key } of left) await manager.destroyVolume(pool, key);
}

/** A pool of somebody else's that was adopted stays where it is. */
async function detach(manager: VolumeManager, sr: string): Promise<void> {
  let info: PoolInfo;
  try {
    info = await manager.statPool(sr);
  } catch (error) {
    if (error instanceof ManagerError && error.code === 'POOL_UNKNOWN') return;
    throw error;
  }
  if (info.store?.owned) await manager.exportPool(sr);
}

async function statSr(manager: VolumeManager, sr: string): Promise<SmapiSrStat> {
  try {
    return srStatOf(await manager.statPool(sr));
  } catch (error) {
    const health = error instanceof ManagerError ? UNHEALTHY[error.code] : undefined;
    if (!health) throw error;
    // XAPI asks again later, and keeps what it knows of the volumes meanwhile.
    const { message } = error as ManagerError;
    const nothing = { name: sr, description: '', free_space: 0, total_space: 0 };
    return { sr, ...nothing, datasources: [], clustered: false, health: [health, message] };
  }
}

const UNHEALTHY: Partial<Record<string, 'Unreachable' | 'Unavailable'>> = {
  ZFS_MISSING: 'Unavailable',
  POOL_SUSPENDED: 'Unavailable',
  ZFS_TIMEOUT: 'Unreachable',
};

function srStatOf(info: PoolInfo): SmapiSrStat {
  const { pool, store, state, freeBytes, totalBytes, reservedBytes } = info;
  return {
    sr: pool,
    name: store?.name ?? pool,
    ...(store && { uuid: store.uuid }),
    description: store?.description ?? '',
    free_space: freeBytes,
    total_space: totalBytes - reservedBytes,
    datasources: [],
    clustered: false,
    // A pool that has lost a disk works: with any other word XAPI would not scan it.
    health: NO_IO.has(state) ? ['Unavailable', state] : ['Healthy', state],
  };
}

const NO_IO = new Set<PoolInfo['state']>(['SUSPENDED', 'FAULTED', 'UNAVAIL', 'REMOVED', 'OFFLINE']);

async function probe(
  manager: VolumeManager,
  configuration: Configuration,
): Promise<SmapiProbeResult[]> {
  const isAsked = (found: { pool: string; guid: string }) =>
    (configuration['pool'] ?? found.pool) === found.pool &&
    (configuration['guid'] ?? found.guid) === found.guid;
  const [imported, others] = await Promise.all([
    manager.listPools(true),
    manager.importablePools(),
  ]);
  const here = imported.filter(isAsked).map(probedPool);
  const away = others.filter(isAsked).map(({ pool, guid, state, status }) => ({
    configuration: { pool, guid },
    complete: true,
    extra_info: { state, imported: 'false', ...(status !== undefined && { status }) },
  }));
  return [...here, ...away];
}

function probedPool(info: PoolInfo): SmapiProbeResult {
  const { pool, guid, state, store } = info;
  const configuration = { pool, guid };
  const extra_info = { state, imported: 'true' };
  if (!store) return { configuration, complete: true, extra_info };
  return {
    configuration: { ...configuration, sr_uuid: store.uuid },
    complete: true,
    sr: srStatOf(info),
    extra_info: { ...extra_info, owned: String(store.owned) },
  };
}
