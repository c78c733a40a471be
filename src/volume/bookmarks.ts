// SPDX-License-Identifier: Apache-2.0
// Snapshots whose data is destroyed: ZFS's bookmarks, which cost nothing, and from which ZFS still
// tells what has changed.
import { isZfsError } from '../zfs/zfs_error.ts';
import {
  type BookmarkRecords,
  bookmarkInfos,
  bookmarkRecords,
  changedRecord,
  recordOf,
} from './bookmark_records.ts';
import type { Context } from './context.ts';
import { explained } from './failures.ts';
import { ManagerError, type MetadataChange, type VolumeInfo } from './manager_types.ts';
import { readName } from './names.ts';
import { encodeRecord, PROPERTY } from './properties.ts';
import { toInfo } from './records.ts';

/**
 * The record first, then the bookmark, then the snapshot goes: wherever this dies the snapshot is
 * there as before, or the bookmark is.
 */
export async function destroyData(
  context: Context,
  pool: string,
  key: string,
): Promise<VolumeInfo> {
  return context.changeStore(pool, async (store) => {
    const snapshot = await store.find(key);
    if (!snapshot) return needBookmark(context, pool, key);
    const volume = snapshot.name.parent;
    const doing = `the data of ${snapshot.dataset} cannot be destroyed`;
    if (snapshot.name.role !== 'snapshot') {
      throw new ManagerError('NOT_A_SNAPSHOT', `${doing}: it is a volume`);
    }
    await changeRecords(context, pool, volume, (records) => {
      return { ...records, [key]: recordOf(toInfo(pool, snapshot)) };
    });
    await explained('volume', doing, async () => {
      try {
        await context.zfs.bookmark(snapshot.dataset, `${volume}#${key}`);
      } catch (error) {
        // A call before died here.
        if (!isZfsError(error, 'exists')) throw error;
        const { guid } = await context.look(pool, `${volume}#${key}`);
        if (guid !== snapshot.guid) throw error;
      }
      await context.zfs.destroyDeferred(snapshot.dataset);
    });
    if (readName(pool, volume).role === 'old') await store.finish();
    return needBookmark(context, pool, key);
  });
}

/** Done also where there is none: false. Whoever calls has the pool to himself. */
export async function destroyBookmark(
  context: Context,
  pool: string,
  key: string,
): Promise<boolean> {
  const bookmark = await findBookmark(context, pool, key);
  if (!bookmark) return false;
  await explained('volume', `${bookmark.dataset} cannot be destroyed`, () =>
    context.zfs.destroy(bookmark.dataset),
  );
  await changeRecords(context, pool, volumeOf(bookmark), ({ [key]: _, ...others }) => others);
  return true;
}

export async function setBookmarkMetadata(
  context: Context,
  pool: string,
  key: string,
  change: MetadataChange,
): Promise<VolumeInfo> {
  const bookmark = await needBookmark(context, pool, key);
  await changeRecords(context, pool, volumeOf(bookmark), (records) => {
    const { [key]: record } = records;
    return record ? { ...records, [key]: changedRecord(record, change) } : records;
  });
  return needBookmark(context, pool, key);
}

async function changeRecords(
  context: Context,
  pool: string,
  volume: string,
  change: (records: BookmarkRecords) => BookmarkRecords,
): Promise<void> {
  const records = change(bookmarkRecords(await context.look(pool, volume)));
  await explained('volume', `what is known of the bookmarks of ${volume} cannot be kept`, () =>
    context.zfs.set(volume, { [PROPERTY.bookmarks]: encodeRecord(records) }),
  );
}

async function findBookmark(
  context: Context,
  pool: string,
  key: string,
): Promise<VolumeInfo | undefined> {
  const infos = bookmarkInfos(pool, await context.store(pool).read());
  return infos.find((info) => info.key === key);
}

async function needBookmark(context: Context, pool: string, key: string): Promise<VolumeInfo> {
  const info = await findBookmark(context, pool, key);
  if (info) return info;
  throw new ManagerError('VOLUME_UNKNOWN', `there is no volume ${key} in the pool ${pool}`);
}

function volumeOf({ dataset }: VolumeInfo): string {
  return dataset.replace(/#.*$/, '');
}
