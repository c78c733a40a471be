// SPDX-License-Identifier: Apache-2.0
// Health as the manager watches it, and the limit of ZFS's cache.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { Health } from '/host/ringdisk/dist/health/health.js';
import { createLogger } from '/host/ringdisk/dist/log.js';
import { Arc } from '/host/ringdisk/dist/zfs/arc.js';
import { runCommand } from '/host/ringdisk/dist/zfs/command.js';
import { poolStates } from '/host/ringdisk/dist/zfs/kstat.js';
import { parseEvents } from '/host/ringdisk/dist/zfs/pool_events.js';
import { disk, freshPool, MIB, manage } from './pool.mjs';
import { run, sh } from './shell.mjs';

export const subject = 'watching';

const log = createLogger({ level: 'silent' });

function watch() {
  let clock = Date.now();
  const health = new Health({ run: runCommand, log, now: () => clock });
  return async () => {
    clock += 60_000;
    const report = await health.report();
    return {
      ...report,
      verdicts: Object.fromEntries(report.pools.map(({ pool, verdict }) => [pool, verdict])),
      kinds: report.events.map(({ kind }) => kind).sort(),
    };
  };
}

export const tests = {
  'a disk that goes and comes back is an event that begins and ends': async () => {
    const wish = { layout: 'mirror', disks: [disk(0), disk(1)] };
    const { manager, pool } = await freshPool(wish);
    const look = watch();
    assert.deepEqual((await look()).verdicts, { [pool]: 'healthy' });
    await manager.expandPool(pool, { action: 'offline', disk: disk(1) });
    const down = await look();
    assert.deepEqual(down.verdicts, { [pool]: 'unhealthy' });
    assert.deepEqual(down.kinds, ['disk-state', 'pool-state']);
    const { id, subject: name } = down.events.find(({ kind }) => kind === 'disk-state');
    assert.equal(id, `${down.pools[0].guid}/disk-state/${name}`);
    await manager.expandPool(pool, { action: 'online', disk: disk(1) });
    await sh(`zpool wait -t resilver ${pool}`);
    const up = await look();
    assert.deepEqual(up.verdicts, { [pool]: 'healthy' });
    const said = up.changes.map(({ what, event }) => `${what} ${event.kind}`);
    assert.deepEqual(
      said.filter((text) => text.endsWith('disk-state')),
      ['began disk-state', 'ended disk-state'],
    );
  },

  'a pool that fills up says so before it is full': async () => {
    await sh('truncate -s 256M /var/tmp/small');
    const manager = await manage();
    const wish = { pool: 'small', layout: 'stripe', disks: ['/var/tmp/small'], wipe: true };
    await manager.createPool({ ...wish, reserve: 0 });
    const look = watch();
    assert.deepEqual((await look()).kinds, []);
    const { device } = await manager.createVolume({ pool: 'small', key: 'vm1', size: 200 * MIB });
    await sh(`dd if=/dev/urandom of=${device} bs=1M count=150 conv=fsync; zpool sync small`);
    const { kinds } = await look();
    assert.ok(kinds.includes('space') || kinds.includes('capacity'), kinds.join());
    await sh('zpool destroy small; rm /var/tmp/small');
  },

  'one that does no I/O is unknown, and the others are told': async () => {
    await sh('truncate -s 1G /var/tmp/gone');
    await sh(`losetup /dev/loop7 /var/tmp/gone
      dmsetup create gone --table "0 $(blockdev --getsz /dev/loop7) linear /dev/loop7 0"`);
    const { pool: well } = await freshPool();
    const manager = await manage();
    const wish = { pool: 'gone', layout: 'stripe', disks: ['/dev/mapper/gone'], wipe: true };
    await manager.createPool(wish);
    const look = watch();
    assert.deepEqual((await look()).verdicts, { [well]: 'healthy', gone: 'healthy' });
    try {
      await sh(`dmsetup suspend --noflush --nolockfs gone
        dmsetup load gone --table "0 $(blockdev --getsz /dev/loop7) error" && dmsetup resume gone`);
      void sh('timeout 20 zfs snapshot gone@trigger').catch(() => {});
      for (let i = 0; i < 100; i++) {
        if ((await poolStates())?.get('gone') === 'SUSPENDED') break;
        await sh('sleep 0.2');
      }
      assert.equal((await poolStates()).get(well), 'ONLINE');
      const { verdicts, events } = await look();
      assert.deepEqual(verdicts, { [well]: 'healthy', gone: 'unknown' });
      assert.equal(events[0]?.kind, 'pool-state');
      assert.equal(events[0]?.severity, 'critical');
    } finally {
      await sh(`dmsetup suspend --noflush --nolockfs gone
        dmsetup load gone --table "0 $(blockdev --getsz /dev/loop7) linear /dev/loop7 0"
        dmsetup resume gone; zpool clear gone`);
    }
    await sh('zpool destroy -f gone');
    await sh('dmsetup remove gone; losetup -d /dev/loop7; rm /var/tmp/gone');
  },

  'without the module nothing is said to be well': async () => {
    const look = watch();
    await sh("rmmod zfs; echo 'install zfs /bin/false' > /etc/modprobe.d/no_zfs.conf");
    try {
      assert.equal(await poolStates(), undefined);
      const { incomplete, verdicts } = await look();
      assert.match(incomplete, /ZFS|module/);
      assert.deepEqual(verdicts, {});
    } finally {
      await sh('rm /etc/modprobe.d/no_zfs.conf; modprobe zfs');
    }
    assert.equal((await look()).incomplete, undefined);
  },

  'ZFS’s events are read as it prints them': async () => {
    const { pool } = await freshPool();
    const events = parseEvents(await run('zpool', 'events', '-Hv'));
    const made = events.filter((event) => event.pool === pool);
    assert.ok(
      made.some(({ kind }) => kind === 'sysevent.fs.zfs.pool_create'),
      'no creation',
    );
    assert.ok(
      made.every(({ at }) => Math.abs(at - Date.now()) < 600_000),
      'times are wrong',
    );
  },

  'the limit of the cache is set and taken back': async () => {
    const arc = new Arc();
    const before = arc.read().loaded.limitBytes;
    const set = await arc.set(200 * MIB);
    assert.equal(set.loaded.limitBytes, 200 * MIB);
    assert.equal(set.kept.bytes, 200 * MIB);
    assert.match(await sh('modprobe -c | grep "^options zfs"'), /zfs_arc_max=209715200/);
    const undone = await arc.unset();
    assert.equal(undone.loaded.limitBytes, before);
    assert.ok(!existsSync(set.kept.file));
  },
};
