// SPDX-License-Identifier: Apache-2.0
// A dataset of a store, from what ZFS says of it; and what callers are told of a volume. Pure.
import { type Properties, parseNumber } from '../zfs/tables.ts';
import { devicePath } from './device.ts';
import {
  ManagerError,
  VOLUME_PROPERTIES,
  type VolumeInfo,
  type VolumeProperties,
} from './manager_types.ts';
import { type DatasetName, readName } from './names.ts';
import { decodeRecord, decodeText, PROPERTY, textsOf } from './properties.ts';

/** What is asked of every dataset of a store. */
export const ASKED = [
  'type',
  'creation',
  'createtxg',
  'guid',
  'volsize',
  'volblocksize',
  'used',
  'referenced',
  'written',
  'refreservation',
  'origin',
  'defer_destroy',
  'keystatus',
  'encryptionroot',
  'snapdev',
  'receive_resume_token',
  ...VOLUME_PROPERTIES,
  ...Object.values(PROPERTY),
];

export interface DatasetRecord {
  dataset: string;
  name: DatasetName;
  type: string;
  created: number;
  createTxg: number;
  guid: string;
  size: number;
  blockSize: number;
  used: number;
  referenced: number;
  /** Since its newest snapshot. */
  written: number;
  refreservation: number;
  /** A clone's origin, a snapshot's full name. */
  origin?: string;
  /** Destroyed as far as callers know. */
  deferred: boolean;
  keyStatus?: string;
  encryptionRoot?: string;
  snapdev: string;
  /** By which a `zfs receive` that was cut off goes on. */
  token?: string;
  /** Its own, that is, neither inherited nor a default. */
  own: ReadonlyMap<string, string>;
}

/** Throws ManagerError where ZFS leaves out what every dataset has. */
export function toRecord(pool: string, dataset: string, properties: Properties): DatasetRecord {
  const number = (name: string) => parseNumber(properties.get(name)?.value);
  const needed = (name: string): number => {
    const value = number(name);
    if (value !== undefined) return value;
    throw new ManagerError('ZFS_FAILED', `ZFS does not say what ${name} ${dataset} has`);
  };
  const own = [...properties].filter(
    ([, { source }]) => source === 'local' || source === 'received',
  );
  const origin = properties.get('origin')?.value;
  const encryptionRoot = properties.get('encryptionroot')?.value;
  const keyStatus = properties.get('keystatus')?.value;
  const token = properties.get('receive_resume_token')?.value;
  return {
    dataset,
    name: readName(pool, dataset),
    type: properties.get('type')?.value ?? (dataset.includes('#') ? 'bookmark' : ''),
    created: needed('creation'),
    createTxg: needed('createtxg'),
    guid: properties.get('guid')?.value ?? '',
    size: number('volsize') ?? 0,
    blockSize: number('volblocksize') ?? 0,
    used: number('used') ?? 0,
    referenced: number('referenced') ?? 0,
    written: number('written') ?? 0,
    refreservation: number('refreservation') ?? 0,
    ...(origin && { origin }),
    deferred: properties.get('defer_destroy')?.value === 'on',
    ...(keyStatus && keyStatus !== 'none' && { keyStatus }),
    ...(encryptionRoot && { encryptionRoot }),
    snapdev: properties.get('snapdev')?.value ?? 'hidden',
    ...(token && token !== '-' && { token }),
    own: new Map(own.map(([name, { value }]) => [name, value])),
  };
}

/** Somebody needs devices of its snapshots. */
export function isExposed({ dataset, own }: DatasetRecord): boolean {
  return Object.keys(decodeRecord(own.get(PROPERTY.exposed), dataset)).length > 0;
}

/** ZFS tells no size of what is still arriving for the first time. */
export function isArriving({ name, size }: DatasetRecord): boolean {
  return name.role === 'volume' && size === 0;
}

/** A volume or snapshot that callers may see. */
export function isVisible(record: DatasetRecord): boolean {
  if (!record.own.has(PROPERTY.uuid) || record.deferred || isArriving(record)) return false;
  return record.name.role === 'volume' || record.name.role === 'snapshot';
}

export function toInfo(pool: string, record: DatasetRecord): VolumeInfo {
  const { dataset, name, own } = record;
  const isSnapshot = name.role === 'snapshot';
  const text = (property: string) => decodeText(own.get(property) ?? '');
  const snapshotOf = own.get(PROPERTY.of);
  const clonedFrom = own.get(PROPERTY.from);
  const job = own.get(PROPERTY.job);
  const replicaOf = own.get(PROPERTY.replica);
  const device = deviceOf(record);
  return {
    key: name.key,
    kind: isSnapshot ? 'snapshot' : 'volume',
    uuid: text(PROPERTY.uuid),
    name: text(PROPERTY.name),
    description: text(PROPERTY.description),
    pool,
    dataset,
    ...(device && { device }),
    size: record.size,
    blockSize: record.blockSize,
    used: record.used,
    referenced: record.referenced,
    thick: !isSnapshot && record.refreservation >= record.size,
    sharable: own.get(PROPERTY.sharable) === 'on',
    created: record.created,
    ...(snapshotOf && isSnapshot && { snapshotOf }),
    ...(clonedFrom && { clonedFrom }),
    ...(job && isSnapshot && { job }),
    ...(replicaOf && !isSnapshot && { replicaOf }),
    cbtEnabled: own.get(PROPERTY.cbt) === 'on',
    keys: keysOf(record),
    properties: ownProperties(record),
    encrypted: record.keyStatus !== undefined,
    ...(record.keyStatus !== undefined && { keyLoaded: record.keyStatus === 'available' }),
  };
}

export function keysOf({ dataset, own }: DatasetRecord): Record<string, string> {
  return textsOf(decodeRecord(own.get(PROPERTY.keys), dataset));
}

function ownProperties({ own }: DatasetRecord): VolumeProperties {
  const set = VOLUME_PROPERTIES.flatMap((property) => {
    const value = own.get(property);
    return value === undefined ? [] : [[property, value]];
  });
  return Object.fromEntries(set);
}

/** A snapshot has one while its volume's snapshots are shown. */
export function deviceOf({ dataset, name, snapdev }: DatasetRecord): string | undefined {
  if (name.role === 'snapshot' && snapdev !== 'visible') return undefined;
  return devicePath(dataset);
}
