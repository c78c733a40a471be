// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { disk, freshPool, GIB, manage, refused } from './pool.mjs';
import { sh } from './shell.mjs';

export const subject = 'health';

async function eventually(look, what) {
  for (let i = 0; i < 100; i++) {
    if (await look()) return;
    await sleep(200);
  }
  throw new Error(`never: ${what}`);
}

export const tests = {
  'a disk that fails degrades the pool, and is replaced': async () => {
    const { manager, pool } = await freshPool({ layout: 'mirror', disks: [disk(0), disk(1)] });
    assert.equal((await manager.poolStatus(pool)).healthy, true);
    const down = await manager.expandPool(pool, { action: 'offline', disk: disk(1) });
    assert.equal(down.state, 'DEGRADED');
    assert.equal(down.healthy, false);
    const [mirror] = down.vdevs.data;
    assert.deepEqual(
      mirror?.children.map(({ state }) => state),
      ['ONLINE', 'OFFLINE'],
    );
    const wish = { action: 'replace', disk: disk(1), by: disk(2), wipe: true };
    await manager.expandPool(pool, wish);
    await eventually(async () => (await manager.poolStatus(pool)).healthy, 'healthy again');
  },

  'it grows by groups, mirrors, log, cache and spares': async () => {
    const { manager, pool } = await freshPool();
    const before = await manager.statPool(pool);
    const wipe = true;
    await manager.expandPool(pool, { action: 'attach', to: disk(0), disk: disk(1), wipe });
    const add = { action: 'add', layout: 'mirror', disks: [disk(2), disk(3)], wipe };
    const rest = { log: [disk(4)], cache: [disk(5)], spare: [disk(6)] };
    const status = await manager.expandPool(pool, { ...add, ...rest });
    assert.deepEqual(
      Object.entries(status.vdevs).map(([role, list]) => [role, list.map(({ kind }) => kind)]),
      [
        ['data', ['mirror', 'mirror']],
        ['log', ['disk']],
        ['cache', ['disk']],
        ['special', []],
        ['spare', ['disk']],
      ],
    );
    assert.ok(status.totalBytes > before.totalBytes * 1.9);
    for (const name of [disk(4), disk(5), disk(6)]) {
      await manager.expandPool(pool, { action: 'remove', disk: name });
    }
    await manager.expandPool(pool, { action: 'detach', disk: disk(1) });
  },

  'raidz grows by a disk where ZFS can': async () => {
    const { manager, pool } = await freshPool({ layout: 'raidz1', disks: [0, 1, 2].map(disk) });
    const before = await manager.statPool(pool);
    const wish = { action: 'attach', to: 'raidz1-0', disk: disk(3), wipe: true };
    await manager.expandPool(pool, wish);
    await eventually(
      async () => (await manager.statPool(pool)).totalBytes > before.totalBytes * 1.2,
      'more space',
    );
  },

  'scrub, trim and clear': async () => {
    const { manager, pool } = await freshPool();
    await manager.scrubPool(pool);
    await eventually(
      async () => /scrub repaired 0B/.test((await manager.poolStatus(pool)).scan ?? ''),
      'the scrub ends',
    );
    await manager.trimPool(pool);
    assert.equal((await manager.clearPool(pool)).healthy, true);
  },

  'no list while a pool is suspended': async () => {
    await sh('truncate -s 1G /var/tmp/gone');
    await sh(`losetup /dev/loop7 /var/tmp/gone
      dmsetup create gone --table "0 $(blockdev --getsz /dev/loop7) linear /dev/loop7 0"`);
    const { manager, pool } = await freshPool({ disks: ['/dev/mapper/gone'], wipe: true });
    try {
      await manager.createVolume({ pool, key: 'vm1', size: GIB });
      await sh(`dmsetup suspend --noflush --nolockfs gone
        dmsetup load gone --table "0 $(blockdev --getsz /dev/loop7) error" && dmsetup resume gone`);
      void sh(`timeout 20 zfs snapshot ${pool}@trigger`).catch(() => {});
      await eventually(
        async () => (await manager.listPools(true))[0]?.state === 'SUSPENDED',
        'suspended',
      );
      await refused(manager.listVolumes(), 'POOL_SUSPENDED');
      await refused(manager.listVolumes(pool), 'POOL_SUSPENDED');
      await refused(manager.statVolume(pool, 'nothing'), 'POOL_SUSPENDED');
      await refused(manager.createVolume({ pool, size: GIB }), 'POOL_SUSPENDED');
      assert.equal((await manager.poolStatus(pool)).healthy, false);
    } finally {
      await sh(`dmsetup suspend --noflush --nolockfs gone
        dmsetup load gone --table "0 $(blockdev --getsz /dev/loop7) linear /dev/loop7 0"
        dmsetup resume gone; zpool clear ${pool}`);
    }
    assert.equal((await manager.listVolumes(pool)).length, 1);
    await manager.destroyPool(pool);
    await sh('dmsetup remove gone; losetup -d /dev/loop7; rm /var/tmp/gone');
  },

  'no list where ZFS is missing': async () => {
    const manager = await manage();
    // ZFS's own commands would load it.
    await sh("rmmod zfs; echo 'install zfs /bin/false' > /etc/modprobe.d/no_zfs.conf");
    try {
      await refused(manager.listVolumes(), 'ZFS_MISSING');
      await refused(manager.listPools(), 'ZFS_MISSING');
    } finally {
      await sh('rm /etc/modprobe.d/no_zfs.conf; modprobe zfs');
    }
    assert.deepEqual(await manager.listPools(true), []);
  },
};
