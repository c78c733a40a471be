// SPDX-License-Identifier: Apache-2.0
// Volumes: what can be asked for, each as one command of ZFS where there is one. What takes several
// leaves nothing that unfinished.ts does not finish or undo, wherever it dies.
import { randomUUID } from 'node:crypto';
import { bookmarkInfos } from './bookmark_records.ts';
import { destroyBookmark, setBookmarkMetadata } from './bookmarks.ts';
import type { Context } from './context.ts';
import { deviceAppears, refuseOpen } from './device.ts';
import { explained } from './failures.ts';
import {
  type CloneVolume,
  type CreateVolume,
  type EncryptionKey,
  type ImportVolume,
  ManagerError,
  type MetadataChange,
  type SnapshotVolume,
  type VolumeInfo,
  type VolumeProperty,
} from './manager_types.ts';
import {
  baseDataset,
  checkKey,
  readName,
  snapshotDataset,
  storeOf,
  volumeDataset,
} from './names.ts';
import { encodeText, PROPERTY } from './properties.ts';
import { type DatasetRecord, isVisible, toInfo } from './records.ts';
import type { Store } from './store.ts';
import {
  checkedBlockSize,
  checkedProperty,
  checkedSize,
  cloneSettings,
  createSettings,
  keyInput,
  metadataSettings,
  propertySettings,
  snapshotSettings,
} from './wishes.ts';

export function listVolumes(context: Context, pool: string): Promise<VolumeInfo[]> {
  return context.looking(pool, async (store) => toInfos(pool, await store.read()));
}

function toInfos(pool: string, records: DatasetRecord[]): VolumeInfo[] {
  const shown = new Map(records.map((record) => [record.dataset, record.snapdev]));
  const infos = records.filter(isVisible).map((record) => {
    const snapdev = shown.get(record.name.parent) ?? 'hidden';
    return toInfo(pool, { ...record, snapdev });
  });
  return [...infos, ...bookmarkInfos(pool, records)];
}

export function statVolume(context: Context, pool: string, key: string): Promise<VolumeInfo> {
  return context.looking(pool, async (store) => {
    const record = await store.find(key);
    if (record) return describe(context, pool, record);
    const all = toInfos(pool, await store.read());
    const info = all.find((one) => one.key === key);
    if (info) return info;
    throw new ManagerError('VOLUME_UNKNOWN', `there is no volume ${key} in the pool ${pool}`);
  });
}

/** Whether a snapshot has a device depends on its volume. */
async function describe(
  context: Context,
  pool: string,
  record: DatasetRecord,
): Promise<VolumeInfo> {
  if (record.name.role === 'volume') return toInfo(pool, record);
  const { snapdev } = await context.look(pool, record.name.parent);
  return toInfo(pool, { ...record, snapdev });
}

export async function createVolume(context: Context, wish: CreateVolume): Promise<VolumeInfo> {
  const { pool, key = randomUUID() } = wish;
  const dataset = volumeDataset(pool, key);
  const size = checkedSize(wish.size, checkedBlockSize(wish.blockSize));
  const settings = createSettings(wish, key, randomUUID());
  const encryptionKey = wish.encryption && keyInput(wish.encryption);
  return context.changeVolume(pool, key, async (store) => {
    await refuseTaken(store, key, wish.key !== undefined);
    await explained('volume', `${dataset} cannot be made`, () =>
      context.zfs.createZvol({
        dataset,
        size,
        sparse: !wish.thick,
        settings,
        key: encryptionKey,
      }),
    );
    return withDevice(context, pool, key);
  });
}

export async function snapshotVolume(
  context: Context,
  pool: string,
  key: string,
  wish: SnapshotVolume = {},
): Promise<VolumeInfo> {
  const snapshotKey = checkKey(wish.key ?? randomUUID());
  return context.changeVolume(pool, key, async (store) => {
    const volume = await needVolume(store, key);
    await refuseTaken(store, snapshotKey, wish.key !== undefined);
    const settings = snapshotSettings(volume, wish, randomUUID());
    const snapshot = snapshotDataset(volume.dataset, snapshotKey);
    await explained('volume', `${snapshot} cannot be made`, () =>
      context.zfs.snapshot(snapshot, settings),
    );
    return toInfo(pool, await context.look(pool, snapshot));
  });
}

export async function cloneVolume(
  context: Context,
  pool: string,
  key: string,
  wish: CloneVolume = {},
): Promise<VolumeInfo> {
  const cloneKey = checkKey(wish.key ?? randomUUID());
  const clone = volumeDataset(pool, cloneKey);
  const make = async (store: Store) => {
    const source = await store.need(key);
    await refuseTaken(store, cloneKey, wish.key !== undefined);
    const settings = {
      ...cloneSettings(source, wish, randomUUID()),
      ...(await reservationOf(context, pool, source, wish.thick)),
    };
    await explained('volume', `${clone} cannot be made`, async () => {
      if (source.name.role === 'snapshot') {
        await context.zfs.clone(source.dataset, clone, settings);
        return;
      }
      const base = baseDataset(source.dataset, randomUUID());
      await context.zfs.snapshot(base, {});
      try {
        await context.zfs.clone(base, clone, settings);
      } finally {
        // From now on it is the clone's, and ends with it; without one it ends at once.
        await context.zfs.destroyDeferred(base);
      }
    });
    return withDevice(context, pool, cloneKey);
  };
  // What is unfinished is looked for by those who have the pool: a base without its clone is.
  return context.changeStore(pool, make);
}

/** As its original's, or a little more than its size: ZFS computes it for new volumes only. */
async function reservationOf(
  context: Context,
  pool: string,
  source: DatasetRecord,
  thick: boolean | undefined,
): Promise<{ refreservation?: string }> {
  const isVolume = source.name.role === 'volume';
  const volume = isVolume ? source : await context.look(pool, source.name.parent);
  const isThick = volume.refreservation >= source.size && source.size > 0;
  if (!(thick ?? isThick)) return {};
  const bytes = isThick ? volume.refreservation : Math.ceil(source.size * METADATA);
  return { refreservation: String(bytes) };
}

/** What a volume's own metadata adds at most, with blocks of 4 KiB. */
const METADATA = 1.05;

export async function destroyVolume(context: Context, pool: string, key: string): Promise<boolean> {
  return context.changeStore(pool, async (store) => {
    const record = await store.find(key);
    if (!record) return destroyBookmark(context, pool, key);
    const doing = `${record.dataset} cannot be destroyed`;
    if (record.name.role === 'snapshot') {
      await explained('volume', doing, () => context.zfs.destroyDeferred(record.dataset));
      const volume = readName(pool, record.name.parent);
      if (volume.role === 'old') await store.finish();
      return true;
    }
    await refuseOpen(record.dataset, doing);
    const snapshots = await context.snapshotsOf(pool, record.dataset);
    refuseForeign(snapshots, doing);
    await explained('volume', doing, async () => {
      if (snapshots.length === 0) await context.zfs.destroy(record.dataset);
      else await context.zfs.rename(record.dataset, context.oldName(pool));
    });
    if (snapshots.length > 0 || record.origin !== undefined) await store.finish();
    return true;
  });
}

function refuseForeign(snapshots: DatasetRecord[], doing: string): void {
  const foreign = snapshots.filter(
    (record) => record.name.role === 'snapshot' && !isVisible(record) && !record.deferred,
  );
  const [first] = foreign;
  if (!first) return;
  throw new ManagerError(
    'VOLUME_FOREIGN',
    `${doing}: it has ${foreign.length} snapshots that ringdisk has not made, such as ` +
      `${first.dataset}. Destroy them with zfs destroy, if nobody needs them.`,
  );
}

export async function renameVolume(
  context: Context,
  pool: string,
  key: string,
  newKey: string,
): Promise<VolumeInfo> {
  const to = volumeDataset(pool, newKey);
  return context.changeStore(pool, async (store) => {
    const volume = await needVolume(store, key);
    const doing = `${volume.dataset} cannot be renamed`;
    await refuseTaken(store, newKey);
    await refuseOpen(volume.dataset, doing);
    await explained('volume', doing, () => context.zfs.rename(volume.dataset, to));
    return withDevice(context, pool, newKey);
  });
}

export async function resizeVolume(
  context: Context,
  pool: string,
  key: string,
  size: number,
): Promise<VolumeInfo> {
  return context.changeVolume(pool, key, async (store) => {
    const volume = await needVolume(store, key);
    const rounded = checkedSize(size, volume.blockSize);
    if (rounded < volume.size) {
      throw new ManagerError(
        'SIZE_INVALID',
        `${volume.dataset} has ${volume.size} bytes, and volumes only grow: ${size} is less`,
      );
    }
    if (rounded > volume.size) {
      await explained('volume', `${volume.dataset} cannot grow`, () =>
        context.zfs.set(volume.dataset, { volsize: String(rounded) }),
      );
    }
    return toInfo(pool, await context.look(pool, volume.dataset));
  });
}

/** An import that dies after its first step has changed nothing of the volume's. */
export async function importVolume(context: Context, wish: ImportVolume): Promise<VolumeInfo> {
  const { pool, dataset, key = dataset.split('/').at(-1) ?? '' } = wish;
  const to = volumeDataset(pool, key);
  if (!dataset.startsWith(`${pool}/`) || dataset.startsWith(`${storeOf(pool)}/`)) {
    throw new ManagerError('NAME_INVALID', `${dataset} is no zvol of ${pool} outside its store`);
  }
  return context.changeStore(pool, async (store) => {
    const doing = `${dataset} cannot be imported`;
    const volume = await explained('volume', doing, () => context.look(pool, dataset));
    if (volume.type !== 'volume') {
      throw new ManagerError('VOLUME_UNKNOWN', `${doing}: it is a ${volume.type}, no zvol`);
    }
    await refuseTaken(store, key);
    await refuseOpen(dataset, doing);
    const settings = {
      [PROPERTY.uuid]: volume.own.get(PROPERTY.uuid) ?? randomUUID(),
      [PROPERTY.name]: encodeText(wish.name ?? key),
      [PROPERTY.description]: encodeText(wish.description ?? ''),
    };
    await explained('volume', doing, async () => {
      await context.zfs.set(dataset, settings);
      await context.zfs.rename(dataset, to);
    });
    return withDevice(context, pool, key);
  });
}

export async function setVolumeProperties(
  context: Context,
  pool: string,
  key: string,
  properties: Partial<Record<VolumeProperty, string | null>>,
): Promise<VolumeInfo> {
  const entries = Object.entries(properties).map(([name, value]) => ({
    name: checkedProperty(name),
    value,
  }));
  const given = entries.filter(({ value }) => value !== null);
  const settings = propertySettings(Object.fromEntries(given.map((e) => [e.name, e.value])));
  return context.changeVolume(pool, key, async (store) => {
    const { dataset } = await needVolume(store, key);
    await explained('volume', `${dataset} cannot be changed`, async () => {
      await context.zfs.set(dataset, settings);
      for (const { name, value } of entries) {
        if (value === null) await context.zfs.inherit(dataset, name);
      }
    });
    return toInfo(pool, await context.look(pool, dataset));
  });
}

export async function setVolumeMetadata(
  context: Context,
  pool: string,
  key: string,
  change: MetadataChange,
): Promise<VolumeInfo> {
  return context.changeVolume(pool, key, async (store) => {
    const record = await store.find(key);
    if (!record) return setBookmarkMetadata(context, pool, key, change);
    await explained('volume', `${record.dataset} cannot be changed`, () =>
      context.zfs.set(record.dataset, metadataSettings(record, change)),
    );
    return describe(context, pool, await context.look(pool, record.dataset));
  });
}

export async function loadKey(
  context: Context,
  pool: string,
  key: string,
  encryption: EncryptionKey,
): Promise<VolumeInfo> {
  const input = keyInput(encryption);
  return context.changeVolume(pool, key, async (store) => {
    const volume = await needVolume(store, key);
    if (volume.keyStatus !== 'available') {
      await explained('volume', `the key of ${volume.dataset} cannot be loaded`, () =>
        context.zfs.loadKey(volume.encryptionRoot ?? volume.dataset, input),
      );
    }
    return withDevice(context, pool, key);
  });
}

export async function unloadKey(context: Context, pool: string, key: string): Promise<VolumeInfo> {
  return context.changeVolume(pool, key, async (store) => {
    const volume = await needVolume(store, key);
    if (volume.keyStatus === 'available') {
      await explained('volume', `the key of ${volume.dataset} cannot be unloaded`, () =>
        context.zfs.unloadKey(volume.encryptionRoot ?? volume.dataset),
      );
    }
    return toInfo(pool, await context.look(pool, volume.dataset));
  });
}

/** A writable volume, or the error that says what it is instead. */
export async function needVolume(store: Store, key: string): Promise<DatasetRecord> {
  const record = await store.need(key);
  if (record.name.role === 'volume') return record;
  throw new ManagerError('READ_ONLY', `${record.dataset} is a snapshot: it cannot be changed`);
}

/** A key that was drawn just now is nobody's. */
async function refuseTaken(store: Store, key: string, isGiven = true): Promise<void> {
  if (!isGiven || !(await store.find(key))) return;
  throw new ManagerError('VOLUME_EXISTS', `there is a volume ${key} in ${store.pool} already`);
}

async function withDevice(context: Context, pool: string, key: string): Promise<VolumeInfo> {
  const info = toInfo(pool, await context.look(pool, volumeDataset(pool, key)));
  const hasKey = info.keyLoaded !== false;
  if (hasKey && !(await deviceAppears(context.run, info.dataset))) {
    context.log.warn({ device: info.device }, 'udev has not made the link to a volume in time');
  }
  return info;
}
