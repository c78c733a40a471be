// SPDX-License-Identifier: Apache-2.0
// Devices of snapshots. ZFS shows those of all snapshots of a volume or of none; so it shows them
// while somebody needs one, which is written down with the volume.
import type { Context } from './context.ts';
import { deviceAppears } from './device.ts';
import { explained } from './failures.ts';
import { ManagerError } from './manager_types.ts';
import { decodeRecord, encodeRecord, PROPERTY } from './properties.ts';

const USERS_MAX = 64;

export async function exposeSnapshot(
  context: Context,
  pool: string,
  key: string,
  user: string,
): Promise<{ device: string }> {
  return context.locks.pool(pool, async () => {
    const snapshot = await context.store(pool).need(key);
    if (snapshot.name.role !== 'snapshot') {
      throw new ManagerError('NOT_A_SNAPSHOT', `${snapshot.dataset} is no snapshot`);
    }
    await changeUsers(context, pool, snapshot.name.parent, (users) => ({
      ...users,
      [`${key} ${user}`]: true,
    }));
    const device = `/dev/zvol/${snapshot.dataset}`;
    if (await deviceAppears(device)) return { device };
    throw new ManagerError('ZFS_FAILED', `the device ${device} has not appeared`);
  });
}

export async function hideSnapshot(
  context: Context,
  pool: string,
  key: string,
  user: string,
): Promise<void> {
  await context.locks.pool(pool, async () => {
    const snapshot = await context.store(pool).find(key);
    if (snapshot?.name.role !== 'snapshot') return;
    await changeUsers(
      context,
      pool,
      snapshot.name.parent,
      ({ [`${key} ${user}`]: _, ...others }) => {
        return others;
      },
    );
  });
}

async function changeUsers(
  context: Context,
  pool: string,
  volume: string,
  change: (users: Record<string, unknown>) => Record<string, unknown>,
): Promise<void> {
  const record = await context.look(pool, volume);
  const users = change(decodeRecord(record.own.get(PROPERTY.exposed), volume));
  const count = Object.keys(users).length;
  if (count > USERS_MAX) {
    throw new ManagerError('VOLUME_BUSY', `${count} users of snapshots of ${volume} are too many`);
  }
  await explained('volume', `the snapshots of ${volume} cannot be shown`, () =>
    context.zfs.set(volume, {
      [PROPERTY.exposed]: encodeRecord(users),
      snapdev: count > 0 ? 'visible' : 'hidden',
    }),
  );
}
