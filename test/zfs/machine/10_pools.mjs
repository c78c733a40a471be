// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { cleanUp, disk, freshPool, GIB, manage, refused } from './pool.mjs';
import { run, sh } from './shell.mjs';

export const subject = 'pools';

/** A plan's space against what ZFS says of the same pool. @param {object} wish */
async function compare(wish) {
  const manager = await manage();
  const plan = await manager.planPool({ reserve: 0, ...wish });
  await manager.createPool({ pool: 'plan', wipe: true, reserve: 0, ...wish });
  const available = Number(await sh('zfs list -Hp -o available plan'));
  const off = Math.abs(plan.usableBytes - available) / available;
  assert.ok(off < 0.01, `planned ${plan.usableBytes}, ZFS has ${available}: ${off * 100} % off`);
  await cleanUp();
}

async function sparse(count, size) {
  await sh(`mkdir -p /var/tmp/plan && rm -f /var/tmp/plan/*`);
  const files = Array.from({ length: count }, (_, i) => `/var/tmp/plan/${i}`);
  for (const file of files) await run('truncate', '-s', size, file);
  return files;
}

export const tests = {
  'made of plain words, with ashift 12, lz4 and a reserve': async () => {
    const { manager, pool } = await freshPool({ layout: 'mirror', disks: [disk(0), disk(1)] });
    assert.equal(
      await sh(`zpool get -Hp -o value ashift ${pool}; zfs get -H -o value compression ${pool}`),
      '12\nlz4\n',
    );
    const info = await manager.statPool(pool);
    const share = info.reservedBytes / info.totalBytes;
    assert.ok(share > 0.19 && share < 0.21, `${share} reserved`);
    assert.equal(info.store?.owned, true);
    assert.deepEqual(await manager.listPools(), [info]);
  },

  'what a plan says is what ZFS has': async () => {
    await compare({ layout: 'mirror', disks: [disk(0), disk(1)] });
    await compare({ layout: 'raidz1', disks: [0, 1, 2].map(disk) });
    await compare({ layout: 'raidz2', disks: [0, 1, 2, 3, 4, 5].map(disk) });
    await compare({ layout: 'stripe', disks: [0, 1].map(disk) });
    await compare({ layout: 'draid', disks: [0, 1, 2, 3, 4, 5].map(disk) });
  },

  'also on sparse files of disks that nobody has yet': async () => {
    const files = await sparse(8, '1T');
    await compare({ layout: 'raidz2', disks: files });
    await compare({ layout: 'mirror', disks: files });
    const manager = await manage();
    const plan = await manager.planPool({ layout: 'raidz2', disks: ['8x10T'] });
    assert.ok(plan.usableBytes > 48e12 && plan.usableBytes < 52e12, String(plan.usableBytes));
    assert.match(plan.failures[0], /^2 disks may fail without loss/);
    assert.match(plan.warnings.join(), /16 KiB take 1\.\d\d times/);
    await sh('rm -r /var/tmp/plan');
  },

  'ashift is never less than a disk has': async () => {
    const { pool } = await freshPool({ disks: [disk(7)] });
    assert.equal(await sh(`zpool get -Hp -o value ashift ${pool}`), '13\n');
    const manager = await manage();
    const wish = { layout: 'stripe', disks: [disk(7)], ashift: 12 };
    await refused(manager.planPool(wish), 'LAYOUT_INVALID');
  },

  'disks in use are refused, wiped or not': async () => {
    const { manager } = await freshPool();
    const wish = { pool: 'other', layout: 'stripe', disks: [disk(0)] };
    await refused(manager.createPool(wish), 'DISK_IN_USE');
    await refused(manager.createPool({ ...wish, wipe: true }), 'DISK_IN_USE');
    await sh(`wipefs -qa ${disk(1)}; mkfs.ext4 -qF ${disk(1)} && mount ${disk(1)} /mnt`);
    const mounted = { ...wish, disks: [disk(1)], wipe: true };
    await refused(manager.createPool(mounted), 'DISK_IN_USE');
    await sh('umount /mnt');
  },

  'old labels are refused unless they are to be wiped': async () => {
    const manager = await manage();
    await sh(`wipefs -qa ${disk(2)}; mkfs.ext4 -qF ${disk(2)}`);
    const wish = { pool: 'other', layout: 'stripe', disks: [disk(2)] };
    const error = await refused(manager.createPool(wish), 'DISK_LABELLED');
    assert.match(error.message, /ext4/);
    await manager.createPool({ ...wish, wipe: true });
    await manager.destroyPool('other');
    // What ZFS itself leaves counts as well.
    await refused(manager.createPool(wish), 'DISK_LABELLED');
  },

  'one that is adopted is not changed, nor destroyed': async () => {
    await sh(`zpool labelclear -f ${disk(3)} 2> /dev/null || true; wipefs -qa ${disk(3)}`);
    await sh(`zpool create -f -m none foreign ${disk(3)} && zfs create -V 64M foreign/theirs`);
    const look = () => sh('zpool get -Hp all foreign; zfs get -Hp all foreign foreign/theirs');
    // A feature of the pool's format is "active" from its first use on: any file system's, too.
    const settled = async () =>
      (await look())
        .split('\n')
        .filter((line) => /\tlocal$/.test(line))
        .map((line) => line.replace(/(\tfeature@\w+\t)active/, '$1enabled'));
    const before = await settled();
    const manager = await manage();
    assert.deepEqual(await manager.listPools(), []);
    const info = await manager.adoptPool({ pool: 'foreign', name: 'ours' });
    assert.equal(info.store?.name, 'ours');
    await manager.createVolume({ pool: 'foreign', key: 'vm1', size: GIB });
    await refused(manager.adoptPool({ pool: 'foreign' }), 'POOL_EXISTS');
    assert.deepEqual(await settled(), before);
    await manager.destroyPool('foreign');
    assert.deepEqual(await settled(), before);
    assert.match(await sh('zfs list -H -o name'), /foreign\/theirs/);
    await refused(manager.statPool('foreign'), 'POOL_UNKNOWN');
  },

  'a pool of ours with something else in it is not destroyed': async () => {
    const { manager, pool } = await freshPool();
    await run('zfs', 'create', '-V', '64M', `${pool}/theirs`);
    await refused(manager.destroyPool(pool), 'POOL_FOREIGN');
    await run('zfs', 'destroy', `${pool}/theirs`);
    await manager.destroyPool(pool);
    assert.deepEqual(await manager.listPools(true), []);
  },

  'exported and imported by GUID, with its volumes': async () => {
    const { manager, pool } = await freshPool();
    const made = await manager.createVolume({
      pool,
      key: 'vm1',
      size: GIB,
      name: 'Grüße\tan\nalle %',
      keys: { 'vdi-type': 'user', odd: '"\\\t-' },
    });
    const { guid } = await manager.statPool(pool);
    await manager.exportPool(guid);
    await manager.exportPool(guid);
    await refused(manager.listVolumes(pool), 'POOL_UNKNOWN');
    const [importable] = (await manager.importablePools()).filter((one) => one.guid === guid);
    assert.equal(importable?.pool, pool);
    await manager.importPool(guid);
    await manager.importPool(guid);
    const { used, referenced, ...known } = await manager.statVolume(pool, 'vm1');
    const { used: _, referenced: __, ...before } = made;
    assert.deepEqual(known, before);
    assert.equal(known.name, 'Grüße\tan\nalle %');
  },

  'a maker that dies is finished by the next': async () => {
    const { runCommand } = await import('/host/ringdisk/dist/zfs/command.js');
    const manager = await manage(async (program, args, options) => {
      if (program === 'zfs' && args[0] === 'create') throw new Error('died');
      return runCommand(program, args, options);
    });
    const wish = { pool: 'half', layout: 'stripe', disks: [disk(0)], wipe: true, uuid: 'u-1' };
    await assert.rejects(manager.createPool(wish), /died/);
    const next = await manage();
    const info = await next.statPool('half');
    assert.equal(info.store?.uuid, 'u-1');
    assert.equal(info.store?.owned, true);
    assert.ok(info.reservedBytes > 0);
  },

  'a full pool still takes snapshots and lets volumes be destroyed': async () => {
    const { manager, pool } = await freshPool({ reserve: 80, compression: 'off' });
    const { device } = await manager.createVolume({ pool, key: 'vm1', size: 4 * GIB });
    await sh(`dd if=/dev/urandom of=${device} bs=1M oflag=direct 2> /dev/null || true`);
    const { freeBytes } = await manager.statPool(pool);
    assert.ok(freeBytes < 64 * 1024 ** 2, `${freeBytes} free`);
    await refused(manager.createVolume({ pool, key: 'vm2', size: GIB, thick: true }), 'POOL_FULL');
    await manager.snapshotVolume(pool, 'vm1');
    for (const { key } of await manager.listVolumes(pool)) await manager.destroyVolume(pool, key);
    assert.deepEqual(await manager.listVolumes(pool), []);
  },
};
