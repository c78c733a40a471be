// SPDX-License-Identifier: Apache-2.0
// A volume's contents become those of another one, which takes its place: by its new name nobody
// sees it any more, and whoever comes next does what is left (unfinished.ts): it is told the
// volume's identity, the volume becomes an `old` one, and it gets the volume's name.
import type { Context } from './context.ts';
import { deviceAppears, refuseOpen } from './device.ts';
import { explained } from './failures.ts';
import { ManagerError, type VolumeInfo } from './manager_types.ts';
import { readyDataset } from './names.ts';
import { type DatasetRecord, isExposed, toInfo } from './records.ts';
import { needVolume } from './volumes.ts';

export async function replaceVolume(
  context: Context,
  pool: string,
  key: string,
  byKey: string,
): Promise<VolumeInfo> {
  return context.changeStore(pool, async (store) => {
    const volume = await needVolume(store, key);
    const other = await needVolume(store, byKey);
    const doing = `${other.dataset} cannot take the place of ${volume.dataset}`;
    refuseUnlike(volume, other, doing);
    for (const { dataset } of [volume, other]) await refuseOpen(dataset, doing);
    await explained('volume', doing, () =>
      context.zfs.rename(other.dataset, readyDataset(volume.dataset)),
    );
    await store.finish();
    // Where that could not be done it says so: the next one tries again.
    await store.read();
    const info = toInfo(pool, await context.look(pool, volume.dataset));
    await deviceAppears(context.run, info.dataset);
    return info;
  });
}

function refuseUnlike(volume: DatasetRecord, other: DatasetRecord, doing: string): void {
  if (volume.dataset === other.dataset) {
    throw new ManagerError('VOLUME_BUSY', `${doing}: it is the same one`);
  }
  if (volume.size !== other.size) {
    const sizes = `it has ${other.size} bytes, not ${volume.size}`;
    throw new ManagerError('SIZE_INVALID', `${doing}: ${sizes}`);
  }
  if (isExposed(volume) || isExposed(other)) {
    throw new ManagerError('VOLUME_BUSY', `${doing}: snapshots of one of them are in use`);
  }
}
