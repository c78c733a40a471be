// SPDX-License-Identifier: Apache-2.0
// The volume manager's interface over plain files, for tests where no ZFS runs: pools are folders,
// volumes are sparse files, snapshots and clones are copies of them. What it says is kept in one
// file, so that it outlives a manager's process as ZFS does.
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import {
  type AdoptPool,
  type ChangedBlocks,
  type CloneVolume,
  type CreatePool,
  type CreateVolume,
  type ImportablePool,
  ManagerError,
  type MetadataChange,
  type PoolInfo,
  type PoolMetadata,
  type PoolStatus,
  type SnapshotVolume,
  type VolumeInfo,
  type VolumeManager,
} from '../../src/volume/manager_types.ts';

const POOL_BYTES = 1024 ** 4;
const BLOCK_BYTES = 16 * 1024;

interface Kept {
  pools: Record<string, PoolInfo & { imported: boolean }>;
  volumes: VolumeInfo[];
}

type Offered =
  | 'createPool'
  | 'adoptPool'
  | 'listPools'
  | 'statPool'
  | 'poolStatus'
  | 'importablePools'
  | 'importPool'
  | 'exportPool'
  | 'destroyPool'
  | 'setPoolMetadata'
  | 'listVolumes'
  | 'statVolume'
  | 'createVolume'
  | 'snapshotVolume'
  | 'cloneVolume'
  | 'destroyVolume'
  | 'resizeVolume'
  | 'revertVolume'
  | 'replaceVolume'
  | 'setVolumeMetadata'
  | 'exposeSnapshot'
  | 'hideSnapshot'
  | 'destroyData'
  | 'changedBlocks';

export class FileVolumes implements Pick<VolumeManager, Offered> {
  readonly #folder: string;
  readonly #file: string;
  /** Instead of all answers: as when the module is missing. */
  broken: ManagerError | undefined;

  constructor(folder: string) {
    this.#folder = folder;
    this.#file = path.join(folder, 'volumes.json');
  }

  /** What SMAPI asks of a manager is here; the rest is for operators. */
  asManager(): VolumeManager {
    return this as unknown as VolumeManager;
  }

  async createPool(wish: CreatePool): Promise<PoolInfo> {
    if (wish.disks.some((disk) => !existsSync(disk))) {
      throw new ManagerError('DISK_IN_USE', `${wish.disks.join()} is not there`);
    }
    return this.#addPool(wish, true);
  }

  async adoptPool(wish: AdoptPool): Promise<PoolInfo> {
    return this.#addPool(wish, false);
  }

  #addPool({ pool, uuid, name, description }: AdoptPool, owned: boolean): Promise<PoolInfo> {
    return this.#change((kept) => {
      if (kept.pools[pool]?.store) throw new ManagerError('POOL_EXISTS', `${pool} is there`);
      mkdirSync(path.join(this.#folder, pool), { recursive: true });
      const about = { uuid: uuid ?? randomUUID(), name: name ?? pool, description };
      const store = { ...about, description: description ?? '', dataset: `${pool}/ringdisk` };
      const space = { freeBytes: POOL_BYTES, usedBytes: 0, totalBytes: POOL_BYTES };
      const info: PoolInfo = {
        ...{ pool, guid: String(Date.now()), state: 'ONLINE', ...space, reservedBytes: 0 },
        ...{ store: { ...store, owned, keys: {} }, fragmentation: 0, capacity: 0, readOnly: false },
      };
      kept.pools[pool] = { ...info, imported: true };
      return info;
    });
  }

  async listPools(all = false): Promise<PoolInfo[]> {
    const pools = Object.values(this.#kept().pools).filter(({ imported }) => imported);
    return pools.filter(({ store }) => all || store);
  }

  async statPool(name: string): Promise<PoolInfo> {
    const found = (await this.listPools()).find(({ pool, guid }) => [pool, guid].includes(name));
    if (found) return found;
    throw new ManagerError('POOL_UNKNOWN', `there is no pool ${name}`);
  }

  async poolStatus(name: string): Promise<PoolStatus> {
    const vdevs = { data: [], log: [], cache: [], special: [], spare: [] };
    const all = { healthy: true, errors: 'No known data errors', warnings: [], vdevs };
    return { ...(await this.statPool(name)), ...all };
  }

  async importablePools(): Promise<ImportablePool[]> {
    return Object.values(this.#kept().pools).filter(({ imported }) => !imported);
  }

  importPool(guid: string): Promise<PoolInfo> {
    return this.#changePool(guid, (info) => ({ ...info, imported: true }));
  }

  async exportPool(pool: string): Promise<void> {
    await this.#changePool(pool, (info) => ({ ...info, imported: false }));
  }

  async destroyPool(pool: string): Promise<void> {
    await this.#change((kept) => {
      delete kept.pools[pool];
      kept.volumes = kept.volumes.filter((info) => info.pool !== pool);
      rmSync(path.join(this.#folder, pool), { recursive: true, force: true });
    });
  }

  setPoolMetadata(pool: string, { keys = {}, ...texts }: PoolMetadata): Promise<PoolInfo> {
    return this.#changePool(pool, (info) => {
      if (!info.store) throw new ManagerError('POOL_UNKNOWN', `${pool} has no store`);
      const store = { ...info.store, ...texts, keys: merged(info.store.keys, keys) };
      return { ...info, store };
    });
  }

  async listVolumes(pool?: string): Promise<VolumeInfo[]> {
    if (pool !== undefined) await this.statPool(pool);
    return this.#kept().volumes.filter((info) => pool === undefined || info.pool === pool);
  }

  async statVolume(pool: string, key: string): Promise<VolumeInfo> {
    const found = (await this.listVolumes(pool)).find((info) => info.key === key);
    if (found) return found;
    throw new ManagerError('VOLUME_UNKNOWN', `there is no volume ${key}`);
  }

  async createVolume({ pool, key = randomUUID(), ...wish }: CreateVolume): Promise<VolumeInfo> {
    const size = Math.ceil(wish.size / BLOCK_BYTES) * BLOCK_BYTES;
    writeFileSync(this.#path(pool, key), '');
    truncateSync(this.#path(pool, key), size);
    const { name = key, description = '', thick = false, sharable = false, keys = {} } = wish;
    const more = { name, description, thick, sharable, keys };
    return this.#add({ ...newVolume(pool, key, size), ...more }, 'volume');
  }

  async snapshotVolume(pool: string, key: string, wish: SnapshotVolume = {}) {
    const origin = await this.statVolume(pool, key);
    const copy = this.#copyOf(origin, wish);
    return this.#add({ ...copy, snapshotOf: origin.uuid }, 'snapshot');
  }

  async cloneVolume(pool: string, key: string, wish: CloneVolume = {}) {
    const origin = await this.statVolume(pool, key);
    return this.#add({ ...this.#copyOf(origin, wish), clonedFrom: origin.uuid }, 'volume');
  }

  async destroyVolume(pool: string, key: string): Promise<boolean> {
    return this.#change((kept) => {
      const left = kept.volumes.filter((info) => info.pool !== pool || info.key !== key);
      const isGone = left.length < kept.volumes.length;
      kept.volumes = left;
      rmSync(this.#path(pool, key), { force: true });
      return isGone;
    });
  }

  async resizeVolume(pool: string, key: string, size: number): Promise<VolumeInfo> {
    const before = await this.statVolume(pool, key);
    if (size < before.size) throw new ManagerError('SIZE_INVALID', 'a volume never shrinks');
    truncateSync(this.#path(pool, key), size);
    return this.#update(pool, key, { size });
  }

  async revertVolume(pool: string, key: string, snapshotKey: string): Promise<VolumeInfo> {
    const { size } = await this.statVolume(pool, snapshotKey);
    copyFile(this.#path(pool, snapshotKey), this.#path(pool, key));
    return this.#update(pool, key, { size });
  }

  async replaceVolume(pool: string, key: string, byKey: string): Promise<VolumeInfo> {
    renameSync(this.#path(pool, byKey), this.#path(pool, key));
    await this.#change((kept) => {
      kept.volumes = kept.volumes.filter((info) => info.pool !== pool || info.key !== byKey);
    });
    return this.statVolume(pool, key);
  }

  async setVolumeMetadata(pool: string, key: string, { keys = {}, ...rest }: MetadataChange) {
    const before = await this.statVolume(pool, key);
    return this.#update(pool, key, { ...rest, keys: merged(before.keys, keys) });
  }

  async exposeSnapshot(pool: string, key: string): Promise<{ device: string }> {
    await this.statVolume(pool, key);
    return { device: this.#path(pool, key) };
  }

  async hideSnapshot(): Promise<void> {}

  /** What a bookmark knows of its snapshot's blocks this only has by its data. */
  async destroyData(pool: string, key: string): Promise<VolumeInfo> {
    return this.#update(pool, key, { kind: 'bookmark', used: 0 });
  }

  async changedBlocks(
    pool: string,
    fromKey: string,
    toKey: string,
    granularity: number,
  ): Promise<ChangedBlocks> {
    const { size } = await this.statVolume(pool, toKey);
    await this.statVolume(pool, fromKey);
    const [from, to] = [fromKey, toKey].map((key) => readFileSync(this.#path(pool, key)));
    const blocks = Math.ceil(size / granularity);
    const bitmap = Buffer.alloc(Math.ceil(blocks / 8));
    for (let block = 0; block < blocks; block++) {
      const [one, other] = [from, to].map((data) =>
        data?.subarray(block * granularity, (block + 1) * granularity),
      );
      const isSame = one?.equals(other ?? Buffer.alloc(0));
      if (!isSame) bitmap[block >> 3] = (bitmap[block >> 3] ?? 0) | (0x80 >> (block & 7));
    }
    return { granularity, bitmap };
  }

  #copyOf(origin: VolumeInfo, wish: SnapshotVolume): VolumeInfo {
    const { key = randomUUID(), name = origin.name, description = origin.description } = wish;
    copyFile(this.#path(origin.pool, origin.key), this.#path(origin.pool, key));
    const { cbtEnabled } = origin;
    const keys = wish.keys ?? {};
    return { ...newVolume(origin.pool, key, origin.size), name, description, keys, cbtEnabled };
  }

  #add(info: VolumeInfo, kind: 'volume' | 'snapshot'): Promise<VolumeInfo> {
    const device = kind === 'volume' ? { device: this.#path(info.pool, info.key) } : {};
    return this.#change((kept) => {
      const added = { ...info, kind, ...device };
      kept.volumes.push(added);
      return added;
    });
  }

  #update(pool: string, key: string, change: Partial<VolumeInfo>): Promise<VolumeInfo> {
    return this.#change((kept) => {
      const at = kept.volumes.findIndex((info) => info.pool === pool && info.key === key);
      const before = kept.volumes[at];
      if (!before) throw new ManagerError('VOLUME_UNKNOWN', `there is no volume ${key}`);
      const after = { ...before, ...change };
      kept.volumes[at] = after;
      return after;
    });
  }

  #changePool(
    name: string,
    step: (info: PoolInfo) => PoolInfo & { imported?: boolean },
  ): Promise<PoolInfo> {
    return this.#change((kept) => {
      const found = Object.values(kept.pools).find(({ pool, guid }) => [pool, guid].includes(name));
      if (!found) throw new ManagerError('POOL_UNKNOWN', `there is no pool ${name}`);
      const after = { ...found, ...step(found) };
      kept.pools[found.pool] = after;
      return after;
    });
  }

  #path(pool: string, key: string): string {
    return path.join(this.#folder, pool, key);
  }

  #kept(): Kept {
    if (this.broken) throw this.broken;
    if (!existsSync(this.#file)) return { pools: {}, volumes: [] };
    return JSON.parse(readFileSync(this.#file, 'utf8'));
  }

  async #change<T>(step: (kept: Kept) => T): Promise<T> {
    const kept = this.#kept();
    const result = step(kept);
    writeFileSync(this.#file, JSON.stringify(kept));
    return result;
  }
}

function newVolume(pool: string, key: string, size: number): VolumeInfo {
  return {
    ...{ key, pool, size, kind: 'volume', uuid: randomUUID(), name: key, description: '' },
    ...{ dataset: `${pool}/ringdisk/${key}`, blockSize: BLOCK_BYTES, used: 0, referenced: 0 },
    ...{ thick: false, sharable: false, created: Math.floor(Date.now() / 1000) },
    ...{ cbtEnabled: false, keys: {}, properties: {}, encrypted: false },
  };
}

function copyFile(from: string, to: string): void {
  execFileSync('cp', ['--sparse=always', '--', from, to]);
}

function merged(
  before: Record<string, string>,
  change: Record<string, string | null>,
): Record<string, string> {
  const after: Record<string, string | null> = { ...before, ...change };
  const left = Object.entries(after).filter(([, value]) => value !== null);
  return Object.fromEntries(left as [string, string][]);
}
