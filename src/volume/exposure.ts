// SPDX-License-Identifier: Apache-2.0
// Devices of snapshots. ZFS shows those of all snapshots of a volume or of none; so it shows them
// while somebody needs one, which is written down with the volume.
import { readFileSync } from 'node:fs';
import type { Context } from './context.ts';
import { deviceAppears, devicePath } from './device.ts';
import { explained } from './failures.ts';
import { ManagerError } from './manager_types.ts';
import { readName } from './names.ts';
import { decodeRecord, encodeRecord, PROPERTY } from './properties.ts';

const USERS_MAX = 64;

export async function exposeSnapshot(
  context: Context,
  pool: string,
  key: string,
  user: string,
): Promise<{ device: string }> {
  return context.changeStore(pool, async (store) => {
    const snapshot = await store.need(key);
    if (snapshot.name.role !== 'snapshot') {
      throw new ManagerError('NOT_A_SNAPSHOT', `${snapshot.dataset} is no snapshot`);
    }
    await changeUsers(context, pool, snapshot.name.parent, (users) => ({
      ...users,
      [`${key} ${user}`]: bootId(),
    }));
    const device = devicePath(snapshot.dataset);
    if (await deviceAppears(context.run, snapshot.dataset)) return { device };
    throw new ManagerError('ZFS_FAILED', `the device ${device} has not appeared`);
  });
}

export async function hideSnapshot(
  context: Context,
  pool: string,
  key: string,
  user: string,
): Promise<void> {
  await context.changeStore(pool, async (store) => {
    const snapshot = await store.find(key);
    if (snapshot?.name.role !== 'snapshot') return;
    const volume = snapshot.name.parent;
    await changeUsers(context, pool, volume, ({ [`${key} ${user}`]: _, ...others }) => others);
    if (readName(pool, volume).role === 'old') await store.finish();
  });
}

async function changeUsers(
  context: Context,
  pool: string,
  volume: string,
  change: (users: Record<string, unknown>) => Record<string, unknown>,
): Promise<void> {
  const record = await context.look(pool, volume);
  const known = Object.entries(decodeRecord(record.own.get(PROPERTY.exposed), volume));
  const alive = known.filter(([, boot]) => boot === bootId());
  const users = change(Object.fromEntries(alive));
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

/** Who needed one before the host was started anew needs none any more. */
function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}
