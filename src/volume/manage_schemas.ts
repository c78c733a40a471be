// SPDX-License-Identifier: Apache-2.0
// What travels on the manager's control socket: manager_types.ts as schemas.
import * as v from 'valibot';
import { HealthEvent } from '../health/event_log.ts';
import { PoolSmart } from '../health/wire.ts';
import { LAYOUTS, type VdevStatus, VOLUME_PROPERTIES } from './manager_types.ts';

const NAMES_MAX = 256;

export const text = v.pipe(v.string(), v.maxLength(4096));
export const bytes = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
export const names = v.pipe(v.array(text), v.maxLength(NAMES_MAX));
export const keys = v.record(v.pipe(v.string(), v.maxLength(256)), text);
export const keyChanges = v.record(v.pipe(v.string(), v.maxLength(256)), v.nullable(text));
const property = v.picklist(VOLUME_PROPERTIES);
export const properties = v.record(property, v.optional(text));
export const propertyChanges = v.record(property, v.optional(v.nullable(text)));

export const encryption = v.object({
  format: v.picklist(['passphrase', 'raw', 'hex']),
  /** base64 */
  key: v.pipe(v.string(), v.base64(), v.maxLength(2048)),
});

const strings = v.record(v.string(), v.string());

export const Volume = v.object({
  key: v.string(),
  kind: v.picklist(['volume', 'snapshot', 'bookmark']),
  uuid: v.string(),
  name: v.string(),
  description: v.string(),
  pool: v.string(),
  dataset: v.string(),
  device: v.exactOptional(v.string()),
  size: v.number(),
  blockSize: v.number(),
  used: v.number(),
  referenced: v.number(),
  thick: v.boolean(),
  sharable: v.boolean(),
  created: v.number(),
  snapshotOf: v.exactOptional(v.string()),
  clonedFrom: v.exactOptional(v.string()),
  job: v.exactOptional(v.string()),
  replicaOf: v.exactOptional(v.string()),
  cbtEnabled: v.boolean(),
  keys: strings,
  properties: strings,
  encrypted: v.boolean(),
  keyLoaded: v.exactOptional(v.boolean()),
});

const deviceState = v.string();

export const Pool = v.object({
  pool: v.string(),
  guid: v.string(),
  state: deviceState,
  store: v.exactOptional(
    v.object({
      uuid: v.string(),
      name: v.string(),
      description: v.string(),
      dataset: v.string(),
      owned: v.boolean(),
      keys: strings,
    }),
  ),
  freeBytes: v.number(),
  usedBytes: v.number(),
  totalBytes: v.number(),
  reservedBytes: v.number(),
  fragmentation: v.number(),
  capacity: v.number(),
  readOnly: v.boolean(),
});

type Wire<T> = { [K in keyof T]: T[K] extends string ? string : T[K] };
export type WireVdev = Omit<Wire<VdevStatus>, 'children'> & { children: WireVdev[] };

const Vdev: v.GenericSchema<unknown, WireVdev> = v.object({
  name: v.string(),
  kind: v.string(),
  state: deviceState,
  readErrors: v.number(),
  writeErrors: v.number(),
  checksumErrors: v.number(),
  note: v.exactOptional(v.string()),
  children: v.array(v.lazy(() => Vdev)),
});
const vdevs = v.array(Vdev);

export const Status = v.object({
  ...Pool.entries,
  healthy: v.boolean(),
  status: v.exactOptional(v.string()),
  action: v.exactOptional(v.string()),
  scan: v.exactOptional(v.string()),
  scanProgress: v.exactOptional(v.number()),
  vdevs: v.object({ data: vdevs, log: vdevs, cache: vdevs, special: vdevs, spare: vdevs }),
  errors: v.string(),
  warnings: v.array(v.string()),
  /** Where the status alone is asked for: what is so now, see the method `health`. */
  events: v.exactOptional(v.array(HealthEvent)),
  smart: v.exactOptional(v.array(PoolSmart)),
});

export const Plan = v.object({
  command: v.array(v.string()),
  ashift: v.number(),
  rawBytes: v.number(),
  usableBytes: v.number(),
  reservedBytes: v.number(),
  groups: v.array(
    v.object({
      role: v.picklist(['data', 'log', 'cache', 'special', 'spare']),
      kind: v.string(),
      disks: v.array(v.string()),
      usableBytes: v.number(),
      survives: v.number(),
    }),
  ),
  failures: v.array(v.string()),
  warnings: v.array(v.string()),
});

export const Importable = v.object({
  pool: v.string(),
  guid: v.string(),
  state: v.string(),
  status: v.exactOptional(v.string()),
  action: v.exactOptional(v.string()),
});

const optionalNames = v.optional(names);
const percent = v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(90)));

export const layoutEntries = {
  layout: v.picklist(LAYOUTS),
  disks: names,
  width: v.optional(v.number()),
  log: optionalNames,
  cache: optionalNames,
  special: optionalNames,
  spare: optionalNames,
  ashift: v.optional(v.number()),
} as const;

export const planEntries = { ...layoutEntries, reserve: percent } as const;

export const storeEntries = {
  pool: text,
  name: v.optional(text),
  description: v.optional(text),
  uuid: v.optional(v.pipe(v.string(), v.maxLength(64))),
  reserve: percent,
} as const;

const wipe = v.optional(v.boolean());

export const Change = v.variant('action', [
  v.object({ action: v.literal('add'), wipe, ...v.partial(v.object(layoutEntries)).entries }),
  v.object({ action: v.literal('replace'), disk: text, by: v.optional(text), wipe }),
  v.object({ action: v.literal('attach'), to: text, disk: text, wipe }),
  v.object({ action: v.picklist(['detach', 'remove', 'offline', 'online']), disk: text }),
  v.object({ action: v.literal('grow') }),
]);
