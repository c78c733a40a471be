// SPDX-License-Identifier: Apache-2.0
// A volume's contents become those of one of its snapshots, and nothing else of it changes.
//
// To its newest snapshot ZFS rolls back, at once. To an older one it would destroy those after it,
// so a clone takes the volume's place: made under a name of ours with all that the volume keeps,
// then the volume becomes an `old` one (unfinished.ts), then the clone gets its name. Before the
// second step the next call undoes it, after that it finishes it.
import type { Context } from './context.ts';
import { deviceAppears, refuseOpen } from './device.ts';
import { explained } from './failures.ts';
import { ManagerError, type VolumeInfo } from './manager_types.ts';
import { newDataset } from './names.ts';
import { PROPERTY } from './properties.ts';
import { type DatasetRecord, isExposed, toInfo } from './records.ts';
import { needVolume } from './volumes.ts';
import { identitySettings } from './wishes.ts';

export async function revertVolume(
  context: Context,
  pool: string,
  key: string,
  snapshotKey: string,
): Promise<VolumeInfo> {
  return context.changeStore(pool, async (store) => {
    const volume = await needVolume(store, key);
    const snapshot = await store.need(snapshotKey);
    const doing = `${volume.dataset} cannot be reverted to ${snapshot.dataset}`;
    if (snapshot.own.get(PROPERTY.of) !== volume.own.get(PROPERTY.uuid)) {
      throw new ManagerError('NOT_A_SNAPSHOT', `${doing}: it is none of its snapshots`);
    }
    await refuseOpen(volume.dataset, doing);
    if (isExposed(volume)) {
      throw new ManagerError('VOLUME_BUSY', `${doing}: snapshots of it are in use`);
    }
    await explained('volume', doing, async () => {
      if (await isNewest(context, pool, volume, snapshot)) {
        await context.zfs.rollback(snapshot.dataset);
      } else await exchange(context, pool, volume, snapshot);
    });
    await store.finish();
    const info = toInfo(pool, await context.look(pool, volume.dataset));
    await deviceAppears(context.run, info.dataset);
    return info;
  });
}

/** Bookmarks count as well: ZFS would destroy those after it. */
async function isNewest(
  context: Context,
  pool: string,
  volume: DatasetRecord,
  snapshot: DatasetRecord,
): Promise<boolean> {
  if (snapshot.name.parent !== volume.dataset) return false;
  const later = (await context.relativesOf(pool, volume.dataset)).filter(
    ({ createTxg, dataset }) => createTxg >= snapshot.createTxg && dataset !== snapshot.dataset,
  );
  return later.length === 0;
}

async function exchange(
  context: Context,
  pool: string,
  volume: DatasetRecord,
  snapshot: DatasetRecord,
): Promise<void> {
  const made = newDataset(volume.dataset);
  const isThick = volume.refreservation >= volume.size;
  const settings = {
    ...identitySettings(volume),
    ...(isThick && { refreservation: String(volume.refreservation) }),
  };
  await context.zfs.clone(snapshot.dataset, made, settings);
  await context.zfs.rename(volume.dataset, context.oldName(pool));
  await context.zfs.rename(made, volume.dataset);
}
