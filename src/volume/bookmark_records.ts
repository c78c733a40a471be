// SPDX-License-Identifier: Apache-2.0
// ZFS's bookmarks have no properties of their own: what is known of them is kept with their volume,
// by key. A record without its bookmark, or beside the snapshot that it is to replace, says
// nothing.
import type { MetadataChange, VolumeInfo } from './manager_types.ts';
import { decodeRecord, PROPERTY } from './properties.ts';
import { type DatasetRecord, isVisible } from './records.ts';
import { changedKeys } from './wishes.ts';

export interface BookmarkRecord {
  uuid: string;
  name: string;
  description: string;
  size: number;
  created: number;
  snapshotOf?: string;
  keys: Record<string, string>;
}

export type BookmarkRecords = Record<string, BookmarkRecord>;

/** Throws ManagerError where a volume's records cannot be read. */
export function bookmarkRecords(volume: DatasetRecord): BookmarkRecords {
  const records = decodeRecord(volume.own.get(PROPERTY.bookmarks), volume.dataset);
  return records as unknown as BookmarkRecords;
}

export function recordOf(snapshot: VolumeInfo): BookmarkRecord {
  const { uuid, name, description, size, created, snapshotOf, keys } = snapshot;
  return { uuid, name, description, size, created, ...(snapshotOf && { snapshotOf }), keys };
}

export function changedRecord(record: BookmarkRecord, change: MetadataChange): BookmarkRecord {
  return {
    ...record,
    name: change.name ?? record.name,
    description: change.description ?? record.description,
    keys: changedKeys(record.keys, change.keys ?? {}),
  };
}

export function bookmarkInfos(pool: string, records: readonly DatasetRecord[]): VolumeInfo[] {
  const marks = new Set(
    records.filter(({ name }) => name.role === 'bookmark').map(({ dataset }) => dataset),
  );
  const keys = new Set(records.filter(isVisible).map(({ name }) => name.key));
  return records
    .filter(({ own }) => own.has(PROPERTY.bookmarks))
    .flatMap((volume) =>
      Object.entries(bookmarkRecords(volume)).map(([key, record]) =>
        toInfo(pool, volume, key, record),
      ),
    )
    .filter(({ dataset, key }) => marks.has(dataset) && !keys.has(key));
}

function toInfo(
  pool: string,
  volume: DatasetRecord,
  key: string,
  record: BookmarkRecord,
): VolumeInfo {
  return {
    ...record,
    key,
    kind: 'bookmark',
    pool,
    dataset: `${volume.dataset}#${key}`,
    blockSize: volume.blockSize,
    used: 0,
    referenced: 0,
    thick: false,
    sharable: false,
    cbtEnabled: true,
    properties: {},
    encrypted: volume.keyStatus !== undefined,
  };
}
