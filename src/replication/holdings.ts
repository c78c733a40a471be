// SPDX-License-Identifier: Apache-2.0
// What a store holds, as replication sees it: volumes, also those that are still arriving, with the
// snapshots that are really on them. ZFS's own numbers (guid) tell which snapshots are the same.
import * as v from 'valibot';
import type { Context } from '../volume/context.ts';
import { decodeRecord, decodeText, PROPERTY } from '../volume/properties.ts';
import { type DatasetRecord, isArriving } from '../volume/records.ts';
import { type LabelValues, labelsOf } from './labels.ts';

export const HeldSnapshot = v.object({
  /** Behind the @. */
  name: v.string(),
  /** Decimal, 64 bits; the same wherever it was sent to. */
  guid: v.string(),
  /** Seconds since 1970, of the first of them. */
  created: v.number(),
  /** Missing: it has arrived, and was not named any more. */
  uuid: v.exactOptional(v.string()),
  job: v.exactOptional(v.string()),
});
export type HeldSnapshot = v.InferOutput<typeof HeldSnapshot>;

export const HeldVolume = v.object({
  key: v.string(),
  uuid: v.exactOptional(v.string()),
  /** The job that writes it, as POOL/NAME. */
  replicaOf: v.exactOptional(v.string()),
  /** It has never arrived whole. */
  arriving: v.boolean(),
  /** By which what was cut off goes on. */
  token: v.exactOptional(v.string()),
  /** Oldest first. */
  snapshots: v.array(HeldSnapshot),
});
export type HeldVolume = v.InferOutput<typeof HeldVolume>;

export interface SourceSnapshot extends HeldSnapshot {
  txg: number;
  labels: LabelValues;
}

/** What a job has sent of a volume, by snapshots' guids. */
const Sent = v.object({ begun: v.exactOptional(v.string()), done: v.exactOptional(v.string()) });
export type Sent = v.InferOutput<typeof Sent>;

export interface SourceVolume extends HeldVolume {
  dataset: string;
  encrypted: boolean;
  sent: Record<string, Sent>;
  labels: LabelValues;
  snapshots: SourceSnapshot[];
}

/** A job's snapshot that is not on its volume any more: that was destroyed, or reverted. */
export interface StraySnapshot extends HeldSnapshot {
  /** Its volume's UUID. */
  of: string;
}

export interface Holdings {
  volumes: SourceVolume[];
  strays: StraySnapshot[];
}

export async function readHoldings(context: Context, pool: string): Promise<Holdings> {
  return toHoldings(await context.looking(pool, (store) => store.read()));
}

export function toHoldings(records: readonly DatasetRecord[]): Holdings {
  const snapshots = new Map<string, DatasetRecord[]>();
  for (const record of records) {
    if (record.name.role !== 'snapshot' || record.deferred) continue;
    const list = snapshots.get(record.name.parent) ?? [];
    snapshots.set(record.name.parent, [...list, record]);
  }
  const isVolume = ({ name, type }: DatasetRecord) => name.role === 'volume' && type === 'volume';
  const volumes = records
    .filter(isVolume)
    .map((record) => toVolume(record, snapshots.get(record.dataset) ?? []));
  const homes = new Map(volumes.map(({ dataset, uuid }) => [dataset, uuid]));
  const strays = [...snapshots.values()].flat().flatMap((record) => {
    const of = record.own.get(PROPERTY.of);
    const isStray = record.own.has(PROPERTY.job) && homes.get(record.name.parent) !== of;
    return isStray && of !== undefined ? [{ ...toSnapshot(record), of }] : [];
  });
  return { volumes, strays };
}

function toVolume(record: DatasetRecord, snapshots: DatasetRecord[]): SourceVolume {
  const { dataset, name, own, token, keyStatus } = record;
  const replicaOf = own.get(PROPERTY.replica);
  const oldestFirst = [...snapshots].sort((one, other) => one.createTxg - other.createTxg);
  return {
    key: name.key,
    dataset,
    ...uuidOf(record),
    ...(replicaOf && { replicaOf }),
    arriving: isArriving(record),
    ...(token && { token }),
    encrypted: keyStatus !== undefined,
    sent: sentOf(record),
    labels: labelsOf(own),
    snapshots: oldestFirst.map(toSnapshot),
  };
}

function toSnapshot(record: DatasetRecord): SourceSnapshot {
  const { name, guid, created, createTxg, own } = record;
  const job = own.get(PROPERTY.job);
  return {
    name: name.key,
    guid,
    created,
    txg: createTxg,
    ...uuidOf(record),
    ...(job && { job }),
    labels: labelsOf(own),
  };
}

function uuidOf({ own }: DatasetRecord): { uuid?: string } {
  const uuid = own.get(PROPERTY.uuid);
  return uuid === undefined ? {} : { uuid: decodeText(uuid) };
}

function sentOf({ own, dataset }: DatasetRecord): Record<string, Sent> {
  const known = Object.entries(decodeRecord(own.get(PROPERTY.sent), dataset));
  return Object.fromEntries(known.filter((entry): entry is [string, Sent] => v.is(Sent, entry[1])));
}

/** For another host: what it needs to know. */
export function toHeldVolume(volume: SourceVolume): HeldVolume {
  const { key, uuid, replicaOf, arriving, token, snapshots } = volume;
  return {
    key,
    ...(uuid !== undefined && { uuid }),
    ...(replicaOf !== undefined && { replicaOf }),
    arriving,
    ...(token !== undefined && { token }),
    snapshots: snapshots.map(({ labels: _, txg: __, ...snapshot }) => snapshot),
  };
}
