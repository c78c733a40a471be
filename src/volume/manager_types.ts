// SPDX-License-Identifier: Apache-2.0
// What the volume manager offers, to the control socket and to SMAPIv3 alike. A pool that it uses
// holds a store, the dataset <pool>/ringdisk; volumes are the zvols in it, snapshots and clones are
// ZFS's own. All that is known of them is in ZFS properties, so a pool carries it to any host.
//
// Every call either has its whole effect or none that the next call would not finish or undo, also
// when the manager dies in it. Calls that change one volume are carried out one after another.
// A list is complete, or the call fails: what cannot be read is never left out.

/** What went wrong, for programs; the message has the whole sentence, with ZFS's own words. */
export const MANAGER_ERRORS = {
  ZFS_MISSING: 'ZFS is not installed, or its module is not loaded: nothing can be said.',
  ZFS_FAILED: 'A zfs or zpool command failed for a reason that has no code of its own.',
  ZFS_TIMEOUT: 'A zfs or zpool command has not ended in time; what it does may still happen.',
  POOL_UNKNOWN: 'There is no imported pool of that name or GUID, or it has no store.',
  POOL_EXISTS: 'A pool of that name exists, or the pool has a store already.',
  POOL_SUSPENDED: 'The pool does no I/O until its disks are back: nothing can be said or done.',
  POOL_BUSY: 'Something uses the pool or its volumes.',
  POOL_FULL: 'The pool has no room for it.',
  POOL_FOREIGN: 'The pool was adopted, or holds what is not ours: it is not destroyed.',
  LAYOUT_INVALID: 'The disks cannot be laid out so; the message says why.',
  DISK_UNKNOWN: 'The pool has no such disk.',
  DISK_IN_USE: 'A disk is mounted, held by a program, or part of a pool.',
  DISK_LABELLED: 'A disk has an old file system, partition table or pool on it.',
  VOLUME_UNKNOWN: 'There is no volume, snapshot or bookmark with that key.',
  VOLUME_EXISTS: 'There is one with that key already.',
  VOLUME_BUSY: 'A program has the volume open.',
  VOLUME_FOREIGN: 'The volume has snapshots or clones that ringdisk has not made.',
  SIZE_INVALID: 'The size cannot be had: none, too large, or smaller than it is.',
  NAME_INVALID: 'A name, key or property has characters or a length that it may not have.',
  PROPERTY_INVALID: 'ZFS refuses the property or its value, or it cannot be changed any more.',
  READ_ONLY: 'It is a snapshot or a bookmark, which cannot be changed so.',
  KEY_NEEDED: 'The volume is encrypted and its key is not loaded.',
  KEY_WRONG: 'The encryption key is not the right one.',
  NOT_A_SNAPSHOT: 'The operation wants a snapshot, or one of that volume.',
  UNSUPPORTED: 'This version of ZFS cannot do it.',
  ARC_INVALID: "The limit of ZFS's cache cannot be that, or ZFS has not taken it.",
  JOB_UNKNOWN: 'There is no replication job of that name.',
  JOB_EXISTS: 'There is a replication job of that name already.',
  JOB_INVALID: 'The replication job cannot be as it was asked for; the message says why.',
  JOB_RUNNING: 'The replication job runs just now.',
} as const;

export type ManagerErrorCode = keyof typeof MANAGER_ERRORS;

export class ManagerError extends Error {
  readonly code: ManagerErrorCode;
  constructor(code: ManagerErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'ManagerError';
    this.code = code;
  }
}

/** Bytes are numbers: ZFS's largest zvol is below 2^53. */
export type Bytes = number;

// ---- Volumes --------------------------------------------------------------------------------

/**
 * `volume`: a zvol, writable. `snapshot`: read-only. `bookmark`: a snapshot whose data was
 * destroyed; it costs nothing and can only be the older end of changedBlocks().
 */
export type VolumeKind = 'volume' | 'snapshot' | 'bookmark';

/** Properties of ZFS that a volume may have of its own; names and values are ZFS's. */
export const VOLUME_PROPERTIES = [
  'compression',
  'sync',
  'primarycache',
  'secondarycache',
  'logbias',
  'copies',
  'dedup',
  'checksum',
] as const;
export type VolumeProperty = (typeof VOLUME_PROPERTIES)[number];
export type VolumeProperties = Partial<Record<VolumeProperty, string>>;

export interface VolumeInfo {
  /** Unique in the store, and the zvol's or snapshot's name in ZFS: [A-Za-z0-9][A-Za-z0-9._-]*. */
  key: string;
  kind: VolumeKind;
  /** Never changes, not by rename(), revert() or send and receive. */
  uuid: string;
  /** For people: any text, need not be unique. */
  name: string;
  description: string;
  /** The store's pool, and its full name in ZFS, such as tank/ringdisk/vm1. */
  pool: string;
  dataset: string;
  /** The block device; missing for bookmarks and for snapshots, see exposeSnapshot(). */
  device?: string;
  size: Bytes;
  blockSize: Bytes;
  /** What it alone holds, and what it and others share: referenced. */
  used: Bytes;
  referenced: Bytes;
  /** All of its size is reserved. */
  thick: boolean;
  sharable: boolean;
  /** Seconds since 1970. */
  created: number;
  /** A snapshot's or bookmark's volume, by uuid; that may be gone. */
  snapshotOf?: string;
  /** A clone's origin, by the uuid of the volume or snapshot it was made from. */
  clonedFrom?: string;
  /** A snapshot's: the replication job that has made it, and will destroy it. */
  job?: string;
  /** A volume's: the job, as POOL/NAME, that brings it up to date. */
  replicaOf?: string;
  cbtEnabled: boolean;
  /** The toolstack's own words, kept for it. */
  keys: Record<string, string>;
  /** Those that are set on it; others come from the store. */
  properties: VolumeProperties;
  encrypted: boolean;
  /** Missing where it is not encrypted. */
  keyLoaded?: boolean;
}

export interface CreateVolume {
  pool: string;
  /** Default: a new UUID. */
  key?: string;
  /** Default: the key. */
  name?: string;
  description?: string;
  /** Rounded up to whole blocks of `blockSize`. */
  size: Bytes;
  /** A power of two from 4 KiB to 128 KiB; default 16 KiB. It can never be changed. */
  blockSize?: Bytes;
  /** Default false. */
  thick?: boolean;
  sharable?: boolean;
  keys?: Record<string, string>;
  properties?: VolumeProperties;
  encryption?: EncryptionKey;
}

/** The key itself, never a file's name or an argument; base64 where it travels as JSON. */
export interface EncryptionKey {
  format: 'passphrase' | 'raw' | 'hex';
  key: Buffer;
}

export interface SnapshotVolume {
  /** Default: a new UUID. */
  key?: string;
  /** Defaults: the volume's; `keys`: none. */
  name?: string;
  description?: string;
  keys?: Record<string, string>;
  /** The replication job that takes it. */
  job?: string;
}

/** Of a volume or of a snapshot. What is not given is as with the original. */
export interface CloneVolume extends SnapshotVolume {
  properties?: VolumeProperties;
  thick?: boolean;
}

export interface ImportVolume {
  pool: string;
  /** An existing zvol of the pool: it is renamed into the store. */
  dataset: string;
  key?: string;
  name?: string;
  description?: string;
}

/** What has been written or discarded since: one bit for each `granularity`, MSB first. */
export interface ChangedBlocks {
  granularity: Bytes;
  bitmap: Buffer;
}

export interface Volumes {
  /** All volumes, snapshots and bookmarks of a pool's store, or of all. */
  listVolumes(pool?: string): Promise<VolumeInfo[]>;
  /** Throws VOLUME_UNKNOWN only when the pool was read and it is not there. */
  statVolume(pool: string, key: string): Promise<VolumeInfo>;
  createVolume(wish: CreateVolume): Promise<VolumeInfo>;
  snapshotVolume(pool: string, key: string, wish?: SnapshotVolume): Promise<VolumeInfo>;
  cloneVolume(pool: string, key: string, wish?: CloneVolume): Promise<VolumeInfo>;
  /** In any order. Done also when there is none (false). */
  destroyVolume(pool: string, key: string): Promise<boolean>;
  /** Gives a closed volume another key, and with it another device path. */
  renameVolume(pool: string, key: string, newKey: string): Promise<VolumeInfo>;
  /** Rounded up to whole blocks; never shrinks. The daemon that has it open is told by others. */
  resizeVolume(pool: string, key: string, size: Bytes): Promise<VolumeInfo>;
  /** The closed volume's contents become the snapshot's; all else of it stays. */
  revertVolume(pool: string, key: string, snapshotKey: string): Promise<VolumeInfo>;
  /** The closed volume's contents become those of another, which is gone then; all else stays. */
  replaceVolume(pool: string, key: string, byKey: string): Promise<VolumeInfo>;
  importVolume(wish: ImportVolume): Promise<VolumeInfo>;
  /** null takes a property back to the store's. */
  setVolumeProperties(
    pool: string,
    key: string,
    properties: Partial<Record<VolumeProperty, string | null>>,
  ): Promise<VolumeInfo>;
  /** null takes a key away. All given change at once, or none. */
  setVolumeMetadata(pool: string, key: string, change: MetadataChange): Promise<VolumeInfo>;
  /** Makes a snapshot's device appear, for as long as somebody needs it; counted by `user`. */
  exposeSnapshot(pool: string, key: string, user: string): Promise<{ device: string }>;
  /** Idempotent. */
  hideSnapshot(pool: string, key: string, user: string): Promise<void>;
  /** What a snapshot holds is freed; its key stays, as a bookmark. */
  destroyData(pool: string, key: string): Promise<VolumeInfo>;
  /** Between a snapshot or bookmark and a later snapshot or the volume as it is now. */
  changedBlocks(
    pool: string,
    fromKey: string,
    toKey: string,
    granularity: Bytes,
  ): Promise<ChangedBlocks>;
  loadKey(pool: string, key: string, encryption: EncryptionKey): Promise<VolumeInfo>;
  unloadKey(pool: string, key: string): Promise<VolumeInfo>;
}

export interface MetadataChange {
  name?: string;
  description?: string;
  cbtEnabled?: boolean;
  keys?: Record<string, string | null>;
}

// ---- Pools ----------------------------------------------------------------------------------

export const LAYOUTS = ['stripe', 'mirror', 'raidz1', 'raidz2', 'raidz3', 'draid'] as const;
export type Layout = (typeof LAYOUTS)[number];

export interface PoolLayout {
  layout: Layout;
  disks: string[];
  /** Disks of one group (mirror: default 2; raidz, draid: default all). */
  width?: number;
  /** More than one disk: mirrored. */
  log?: string[];
  cache?: string[];
  /** Mirrored where there are several; its loss is the pool's. */
  special?: string[];
  spare?: string[];
  /** 9 to 16; default 12, and never less than a disk's physical sector. */
  ashift?: number;
}

/** What a layout gives, by ZFS's own arithmetic. */
export interface PoolPlan {
  /** `zpool create` as it would be called. */
  command: string[];
  ashift: number;
  rawBytes: Bytes;
  /** For volumes, after parity, ZFS's own share and the reservation. */
  usableBytes: Bytes;
  reservedBytes: Bytes;
  groups: PlannedGroup[];
  /** Sentences: what the failure of a disk of each class costs. */
  failures: string[];
  /** Sentences: slow mixes, different sizes, special without redundancy, ... */
  warnings: string[];
}

export interface PlannedGroup {
  role: 'data' | 'log' | 'cache' | 'special' | 'spare';
  kind: string;
  disks: string[];
  usableBytes: Bytes;
  /** How many of its disks may fail without loss. */
  survives: number;
}

export interface CreatePool extends PoolLayout {
  pool: string;
  /** The store's, for people. */
  name?: string;
  description?: string;
  /** Default: a new UUID. */
  uuid?: string;
  /** Percent of the usable space that volumes never get, 0 to 90; default 20. */
  reserve?: number;
  /** Uses disks with old labels, file systems or partitions; never ones in use. */
  wipe?: boolean;
  /** `zpool create -o`/-O settings are fixed but for these. */
  compression?: string;
}

export interface AdoptPool {
  /** An imported pool, by name or GUID; only <pool>/ringdisk is made in it. */
  pool: string;
  name?: string;
  description?: string;
  uuid?: string;
  /** Default: 0. */
  reserve?: number;
}

/** ZFS's words. */
export type DeviceState =
  | 'ONLINE'
  | 'DEGRADED'
  | 'FAULTED'
  | 'OFFLINE'
  | 'UNAVAIL'
  | 'REMOVED'
  | 'SUSPENDED'
  | 'AVAIL'
  | 'INUSE';

export interface PoolInfo {
  pool: string;
  /** Decimal, 64 bits. */
  guid: string;
  state: DeviceState;
  /** The store's; missing where the pool has none. */
  store?: {
    uuid: string;
    name: string;
    description: string;
    dataset: string;
    /** ringdisk has made the pool. */
    owned: boolean;
    /** The toolstack's own words. */
    keys: Record<string, string>;
  };
  /** For volumes, as ZFS counts it for datasets: parity and its own share are off already. */
  freeBytes: Bytes;
  usedBytes: Bytes;
  /** used + free + reserve. */
  totalBytes: Bytes;
  reservedBytes: Bytes;
  /** Of the raw space, percent. */
  fragmentation: number;
  capacity: number;
  readOnly: boolean;
}

export interface VdevStatus {
  name: string;
  /** mirror, raidz1, draid2, disk, file, spare, replacing, ...; 'root' for the pool itself. */
  kind: string;
  state: DeviceState;
  readErrors: number;
  writeErrors: number;
  checksumErrors: number;
  /** ZFS's remark, such as "(resilvering)". */
  note?: string;
  children: VdevStatus[];
}

export interface PoolStatus extends PoolInfo {
  /** ONLINE, no errors, nothing that an operator must do. */
  healthy: boolean;
  /** ZFS's sentences; missing where all is well. */
  status?: string;
  action?: string;
  /** A line on the last or running scrub or resilver. */
  scan?: string;
  /** While one runs, 0 to 1. */
  scanProgress?: number;
  /** By role: data, log, cache, special, spare. */
  vdevs: Record<PlannedGroup['role'], VdevStatus[]>;
  /** ZFS's line on data errors. */
  errors: string;
  /** Sentences: too full, too fragmented, a spare in use, ... */
  warnings: string[];
}

export interface ImportablePool {
  pool: string;
  guid: string;
  state: string;
  /** ZFS's sentence on why it cannot be imported, or what is wrong. */
  status?: string;
  action?: string;
}

export interface Pools {
  planPool(wish: PoolLayout & { reserve?: number }): Promise<PoolPlan>;
  createPool(wish: CreatePool): Promise<PoolInfo>;
  adoptPool(wish: AdoptPool): Promise<PoolInfo>;
  /** Imported pools; those without a store too, with `all`. */
  listPools(all?: boolean): Promise<PoolInfo[]>;
  /** By name or GUID; with a store, or POOL_UNKNOWN. */
  statPool(pool: string): Promise<PoolInfo>;
  poolStatus(pool: string): Promise<PoolStatus>;
  /** On `dirs`, or on the host's disks. */
  importablePools(dirs?: string[]): Promise<ImportablePool[]>;
  /** By GUID; idempotent: an imported one is just told. */
  importPool(guid: string, options?: ImportPool): Promise<PoolInfo>;
  /** Idempotent: one that is not imported is done. */
  exportPool(pool: string): Promise<void>;
  /** The store with all its volumes; the pool as well if ringdisk has made it. */
  destroyPool(pool: string): Promise<void>;
  setPoolMetadata(pool: string, change: PoolMetadata): Promise<PoolInfo>;
  /** Percent of what volumes could have. */
  setReserve(pool: string, percent: number): Promise<PoolInfo>;
  expandPool(pool: string, change: ExpandPool): Promise<PoolStatus>;
  scrubPool(pool: string, action?: 'start' | 'pause' | 'stop'): Promise<PoolStatus>;
  trimPool(pool: string, action?: 'start' | 'stop'): Promise<PoolStatus>;
  clearPool(pool: string, disk?: string): Promise<PoolStatus>;
}

export interface ImportPool {
  dirs?: string[];
  newName?: string;
  /** It was last used by another host and not exported. */
  force?: boolean;
}

export interface PoolMetadata {
  name?: string;
  description?: string;
  /** null takes one away. */
  keys?: Record<string, string | null>;
}

/** One of: more groups, a disk in another's place, a mirror's further disk, a disk taken out. */
export type ExpandPool =
  | ({ action: 'add'; wipe?: boolean } & Partial<PoolLayout>)
  | { action: 'replace'; disk: string; by?: string; wipe?: boolean }
  | { action: 'attach'; to: string; disk: string; wipe?: boolean }
  | { action: 'detach' | 'remove' | 'offline' | 'online'; disk: string }
  /** Disks that have grown are used whole. */
  | { action: 'grow' };

export interface VolumeManager extends Pools, Volumes {}
