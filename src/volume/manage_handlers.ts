// SPDX-License-Identifier: Apache-2.0
// From the manager's control socket to the manager.
import type { HandlersOf } from '../control/method_table.ts';
import { packageVersion } from '../version.ts';
import type { VolumeMethods } from './manage_protocol.ts';
import type {
  CloneVolume,
  CreateVolume,
  EncryptionKey,
  ExpandPool,
  VolumeManager,
} from './manager_types.ts';

/** What is undefined was not given. */
type Given<T> = { [K in keyof T]: Exclude<T[K], undefined> };

function given<T extends object>(value: T): Given<T> {
  const entries = Object.entries(value).filter(([, item]) => item !== undefined);
  return Object.fromEntries(entries) as Given<T>;
}

function toKey({ format, key }: { format: EncryptionKey['format']; key: string }): EncryptionKey {
  return { format, key: Buffer.from(key, 'base64') };
}

export function manageHandlers(manager: VolumeManager): HandlersOf<VolumeMethods> {
  return { ...poolHandlers(manager), ...volumeHandlers(manager), ...dataHandlers(manager) };
}

type PoolHandlers = Pick<
  HandlersOf<VolumeMethods>,
  | 'version'
  | 'planPool'
  | 'createPool'
  | 'adoptPool'
  | 'listPools'
  | 'poolStatus'
  | 'importablePools'
  | 'importPool'
  | 'exportPool'
  | 'destroyPool'
  | 'setReserve'
  | 'expandPool'
  | 'scrubPool'
  | 'trimPool'
  | 'clearPool'
>;

function poolHandlers(manager: VolumeManager): PoolHandlers {
  return {
    version: async () => ({ ringdisk: packageVersion(), pid: process.pid }),
    planPool: async (wish) => ({ plan: await manager.planPool(given(wish)) }),
    createPool: async (wish) => ({ pool: await manager.createPool(given(wish)) }),
    adoptPool: async (wish) => ({ pool: await manager.adoptPool(given(wish)) }),
    listPools: async ({ all }) => ({ pools: await manager.listPools(all) }),
    poolStatus: async ({ pool }) => ({ status: await manager.poolStatus(pool) }),
    importablePools: async ({ dirs }) => ({ pools: await manager.importablePools(dirs) }),
    importPool: async ({ guid, ...options }) => ({
      pool: await manager.importPool(guid, given(options)),
    }),
    exportPool: async ({ pool }) => {
      await manager.exportPool(pool);
      return {};
    },
    destroyPool: async ({ pool }) => {
      await manager.destroyPool(pool);
      return {};
    },
    setReserve: async ({ pool, percent }) => ({ pool: await manager.setReserve(pool, percent) }),
    expandPool: async ({ pool, change }) => ({
      status: await manager.expandPool(pool, given(change) as ExpandPool),
    }),
    scrubPool: async ({ pool, action }) => ({ status: await manager.scrubPool(pool, action) }),
    trimPool: async ({ pool, action }) => ({ status: await manager.trimPool(pool, action) }),
    clearPool: async ({ pool, disk }) => ({ status: await manager.clearPool(pool, disk) }),
  };
}

type VolumeHandlers = Pick<
  HandlersOf<VolumeMethods>,
  | 'listVolumes'
  | 'statVolume'
  | 'createVolume'
  | 'snapshotVolume'
  | 'cloneVolume'
  | 'destroyVolume'
  | 'renameVolume'
  | 'resizeVolume'
  | 'revertVolume'
  | 'importVolume'
  | 'setVolumeProperties'
  | 'setVolumeMetadata'
>;

function volumeHandlers(manager: VolumeManager): VolumeHandlers {
  return {
    listVolumes: async ({ pool }) => ({ volumes: await manager.listVolumes(pool) }),
    statVolume: async ({ pool, key }) => ({ volume: await manager.statVolume(pool, key) }),
    createVolume: async ({ encryption, ...wish }) => {
      const key = encryption && { encryption: toKey(encryption) };
      return { volume: await manager.createVolume({ ...given(wish), ...key } as CreateVolume) };
    },
    snapshotVolume: async ({ pool, key, newKey, ...wish }) => ({
      volume: await manager.snapshotVolume(pool, key, withKey(newKey, wish)),
    }),
    cloneVolume: async ({ pool, key, newKey, ...wish }) => ({
      volume: await manager.cloneVolume(pool, key, withKey(newKey, wish) as CloneVolume),
    }),
    destroyVolume: async ({ pool, key }) => ({
      destroyed: await manager.destroyVolume(pool, key),
    }),
    renameVolume: async ({ pool, key, newKey }) => ({
      volume: await manager.renameVolume(pool, key, newKey),
    }),
    resizeVolume: async ({ pool, key, size }) => ({
      volume: await manager.resizeVolume(pool, key, size),
    }),
    revertVolume: async ({ pool, key, snapshot }) => ({
      volume: await manager.revertVolume(pool, key, snapshot),
    }),
    importVolume: async (wish) => ({ volume: await manager.importVolume(given(wish)) }),
    setVolumeProperties: async ({ pool, key, properties }) => ({
      volume: await manager.setVolumeProperties(pool, key, given(properties)),
    }),
    setVolumeMetadata: async ({ pool, key, ...change }) => ({
      volume: await manager.setVolumeMetadata(pool, key, given(change)),
    }),
  };
}

function withKey<T extends object>(key: string | undefined, wish: T) {
  return { ...given(wish), ...(key !== undefined && { key }) };
}

type DataHandlers = Omit<HandlersOf<VolumeMethods>, keyof PoolHandlers | keyof VolumeHandlers>;

function dataHandlers(manager: VolumeManager): DataHandlers {
  return {
    exposeSnapshot: async ({ pool, key, user }) => manager.exposeSnapshot(pool, key, user),
    hideSnapshot: async ({ pool, key, user }) => {
      await manager.hideSnapshot(pool, key, user);
      return {};
    },
    destroyData: async ({ pool, key }) => ({ volume: await manager.destroyData(pool, key) }),
    changedBlocks: async ({ pool, from, to, granularity }) => {
      const changes = await manager.changedBlocks(pool, from, to, granularity);
      return { granularity: changes.granularity, bitmap: changes.bitmap.toString('base64') };
    },
    loadKey: async ({ pool, key, encryption }) => ({
      volume: await manager.loadKey(pool, key, toKey(encryption)),
    }),
    unloadKey: async ({ pool, key }) => ({ volume: await manager.unloadKey(pool, key) }),
  };
}
