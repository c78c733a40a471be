// SPDX-License-Identifier: Apache-2.0
// The methods of the volume manager's control socket; the frame is that of the daemon's.
import path from 'node:path';
import * as v from 'valibot';
import { HEALTH_METHODS } from '../health/wire.ts';
import { JOB_METHODS } from '../replication/wire.ts';
import { ARC_METHODS } from './arc.ts';
import {
  bytes,
  Change,
  encryption,
  Importable,
  keyChanges,
  keys,
  names,
  Plan,
  Pool,
  planEntries,
  properties,
  propertyChanges,
  Status,
  storeEntries,
  text,
  Volume,
} from './manage_schemas.ts';

export const MANAGE_DIR = '/run/ringdisk-manage';

export function manageSocketPath(runtimeDir: string): string {
  return path.join(runtimeDir, 'manage.sock');
}

/** Creating, wiping and importing wait for many disks. */
export const MANAGE_TIMEOUT_MS = 15 * 60_000;

export const MANAGER_WORDS = {
  name: 'volume manager',
  start: 'systemctl start ringdisk-manage, or ringdisk manage',
  silent: ', and whether zpool list answers',
} as const;

const nothing = v.object({});
const onePool = v.object({ pool: text });
const oneVolume = { pool: text, key: text } as const;
const named = { name: v.optional(text), description: v.optional(text) } as const;
const volume = v.object({ volume: Volume });
const pool = v.object({ pool: Pool });
const status = v.object({ status: Status });
const snapshotEntries = { ...oneVolume, newKey: v.optional(text), ...named } as const;
const scan = <const A extends readonly string[]>(actions: A) =>
  v.object({ pool: text, action: v.optional(v.picklist(actions)) });

/** Of pools and volumes themselves. */
const VOLUME_METHODS = {
  version: { params: nothing, result: v.object({ ringdisk: v.string(), pid: v.number() }) },

  planPool: { params: v.object(planEntries), result: v.object({ plan: Plan }) },
  createPool: {
    params: v.object({
      ...planEntries,
      ...storeEntries,
      wipe: v.optional(v.boolean()),
      compression: v.optional(text),
    }),
    result: pool,
  },
  adoptPool: { params: v.object(storeEntries), result: pool },
  listPools: {
    params: v.object({ all: v.optional(v.boolean()) }),
    result: v.object({ pools: v.array(Pool) }),
  },
  poolStatus: { params: onePool, result: status },
  importablePools: {
    params: v.object({ dirs: v.optional(names) }),
    result: v.object({ pools: v.array(Importable) }),
  },
  importPool: {
    params: v.object({
      guid: text,
      dirs: v.optional(names),
      newName: v.optional(text),
      force: v.optional(v.boolean()),
    }),
    result: pool,
  },
  exportPool: { params: onePool, result: nothing },
  destroyPool: { params: onePool, result: nothing },
  setReserve: { params: v.object({ pool: text, percent: v.number() }), result: pool },
  expandPool: { params: v.object({ pool: text, change: Change }), result: status },
  scrubPool: { params: scan(['start', 'pause', 'stop']), result: status },
  trimPool: { params: scan(['start', 'stop']), result: status },
  clearPool: { params: v.object({ pool: text, disk: v.optional(text) }), result: status },

  listVolumes: {
    params: v.object({ pool: v.optional(text) }),
    result: v.object({ volumes: v.array(Volume) }),
  },
  statVolume: { params: v.object(oneVolume), result: volume },
  createVolume: {
    params: v.object({
      pool: text,
      key: v.optional(text),
      ...named,
      size: bytes,
      blockSize: v.optional(bytes),
      thick: v.optional(v.boolean()),
      sharable: v.optional(v.boolean()),
      keys: v.optional(keys),
      properties: v.optional(properties),
      encryption: v.optional(encryption),
    }),
    result: volume,
  },
  snapshotVolume: { params: v.object(snapshotEntries), result: volume },
  cloneVolume: {
    params: v.object({
      ...snapshotEntries,
      properties: v.optional(properties),
      thick: v.optional(v.boolean()),
    }),
    result: volume,
  },
  destroyVolume: { params: v.object(oneVolume), result: v.object({ destroyed: v.boolean() }) },
  renameVolume: { params: v.object({ ...oneVolume, newKey: text }), result: volume },
  resizeVolume: { params: v.object({ ...oneVolume, size: bytes }), result: volume },
  revertVolume: { params: v.object({ ...oneVolume, snapshot: text }), result: volume },
  importVolume: {
    params: v.object({ pool: text, dataset: text, key: v.optional(text), ...named }),
    result: volume,
  },
  setVolumeProperties: {
    params: v.object({ ...oneVolume, properties: propertyChanges }),
    result: volume,
  },
  setVolumeMetadata: {
    params: v.object({
      ...oneVolume,
      ...named,
      cbtEnabled: v.optional(v.boolean()),
      keys: v.optional(keyChanges),
    }),
    result: volume,
  },
  exposeSnapshot: {
    params: v.object({ ...oneVolume, user: text }),
    result: v.object({ device: v.string() }),
  },
  hideSnapshot: { params: v.object({ ...oneVolume, user: text }), result: nothing },
  destroyData: { params: v.object(oneVolume), result: volume },
  changedBlocks: {
    params: v.object({ pool: text, from: text, to: text, granularity: bytes }),
    /** base64 */
    result: v.object({ granularity: v.number(), bitmap: v.string() }),
  },
  loadKey: { params: v.object({ ...oneVolume, encryption }), result: volume },
  unloadKey: { params: v.object(oneVolume), result: volume },
} as const;

export const MANAGE_METHODS = {
  ...VOLUME_METHODS,
  ...JOB_METHODS,
  ...HEALTH_METHODS,
  ...ARC_METHODS,
} as const;

export type VolumeMethods = typeof VOLUME_METHODS;
export type ManageMethods = typeof MANAGE_METHODS;
export type WireVolume = v.InferOutput<typeof Volume>;
export type WirePool = v.InferOutput<typeof Pool>;
export type WireStatus = v.InferOutput<typeof Status>;
export type WirePlan = v.InferOutput<typeof Plan>;
