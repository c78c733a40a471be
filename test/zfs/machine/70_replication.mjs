// SPDX-License-Identifier: Apache-2.0
// Replication jobs between two pools.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { Transform } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { startProcess } from '/host/ringdisk/dist/zfs/process.js';
import { started } from './manager_process.mjs';
import { datasets, disk, freshPool, MIB, manageJobs, read, refused, write } from './pool.mjs';
import { run, sh } from './shell.mjs';

export const subject = 'replication';

const SIZE = 64 * MIB;
const KEEP = { keep: 'last=2', keepThere: 'last=3' };

/** Two pools with a store each, and jobs from the first to `backup`. */
async function twoPools(start = startProcess) {
  const { pool } = await freshPool();
  const services = await manageJobs(start);
  const { manager } = services;
  await manager.createPool({ pool: 'backup', layout: 'stripe', disks: [disk(1)], wipe: true });
  return { ...services, pool, id: `${pool}/nightly` };
}

const wishFor = (pool) => ({ pool, name: 'nightly', to: { pool: 'backup' }, ...KEEP });

/** Snapshots' times are whole seconds: a job that runs twice in one takes one. */
async function runJob(jobs, id, force = false) {
  await sleep(1100);
  await jobs.run(id, force);
  for (;;) {
    const { state, last } = await jobs.show(id);
    if (state === 'idle') return last;
    await sleep(50);
  }
}

async function snapshotsOf(manager, pool, key) {
  const all = await manager.listVolumes(pool);
  const prefix = `${pool}/ringdisk/${key}@`;
  return all.filter(({ kind, dataset }) => kind === 'snapshot' && dataset.startsWith(prefix));
}

async function sameContents(one, other) {
  await sh(`udevadm settle; cmp ${one} ${other}`);
}

export const tests = {
  'names, ids, properties and contents arrive, and what nobody keeps goes': async () => {
    const { manager, jobs, pool, id } = await twoPools();
    const wish = { pool, key: 'vm1', size: SIZE, name: 'web server', keys: { k: 'v' } };
    const properties = { compression: 'gzip' };
    const made = await manager.createVolume({ ...wish, thick: true, properties });
    await manager.snapshotVolume(pool, 'vm1', { key: 'mine', name: 'monday' });
    await jobs.add(wishFor(pool));
    for (let turn = 1; turn <= 5; turn++) {
      await sh(`dd if=/dev/urandom of=${made.device} bs=1M count=4 seek=${turn} conv=fsync`);
      assert.deepEqual((await runJob(jobs, id)).problems, []);
    }
    const replica = await manager.statVolume('backup', 'vm1');
    for (const name of ['uuid', 'name', 'size', 'blockSize', 'keys', 'properties', 'thick']) {
      assert.deepEqual(replica[name], made[name], name);
    }
    assert.equal(replica.replicaOf, id);
    await sameContents(made.device, replica.device);
    const here = await snapshotsOf(manager, pool, 'vm1');
    const there = await snapshotsOf(manager, 'backup', 'vm1');
    assert.deepEqual(here.map(({ job }) => job).sort(), ['nightly', 'nightly', undefined].sort());
    assert.equal(there.length, 3);
    assert.equal(there.at(-1).uuid, here.at(-1).uuid);
    assert.equal(there.at(-1).snapshotOf, made.uuid);
    // A job is a property of the store, which its volumes inherit, and which must not be sent.
    const sent = await sh(`zfs get -Hp -o property,source all backup/ringdisk/vm1`);
    assert.doesNotMatch(sent, /ringdisk:(job:|ran:|sent|bookmarks|exposed)\S*\t(local|received)/);
  },

  'what is cut off is no volume, and goes on by its token': async () => {
    let cut = 6 * MIB;
    const begun = [];
    const { manager, jobs, pool, id } = await twoPools((program, args) => {
      const process = startProcess(program, args);
      if (args[0] !== 'send') return process;
      begun.push(args.join(' '));
      const left = cut;
      cut = Number.POSITIVE_INFINITY;
      let bytes = 0;
      const stdout = process.stdout.pipe(
        new Transform({
          transform(chunk, _, done) {
            bytes += chunk.length;
            if (bytes > left) process.kill();
            else this.push(chunk);
            done();
          },
        }),
      );
      process.stdout.once('close', () => stdout.end());
      return { ...process, stdout };
    });
    const made = await manager.createVolume({ pool, key: 'vm1', size: SIZE, name: 'web server' });
    await sh(`dd if=/dev/urandom of=${made.device} bs=1M count=24 conv=fsync`);
    await jobs.add(wishFor(pool));
    const broken = await runJob(jobs, id);
    assert.match(broken.problems.join(), /SIGKILL/);
    assert.deepEqual(await manager.listVolumes('backup'), []);
    await refused(manager.statVolume('backup', 'vm1'), 'VOLUME_UNKNOWN');
    const token = await run(
      'zfs',
      'get',
      '-H',
      '-o',
      'value',
      'receive_resume_token',
      'backup/ringdisk/vm1',
    );
    assert.match(token, /^1-/);
    const last = await runJob(jobs, id);
    assert.deepEqual(last.problems, []);
    assert.match(begun[1], /^send -t 1-/);
    assert.ok(last.bytes < 24 * MIB, `${last.bytes} bytes: not only what was missing`);
    const replica = await manager.statVolume('backup', 'vm1');
    assert.equal(replica.uuid, made.uuid);
    assert.equal(replica.name, 'web server');
    await sameContents(made.device, replica.device);
    // The snapshot that came in two parts was named by the job.
    const there = await snapshotsOf(manager, 'backup', 'vm1');
    assert.deepEqual(
      there.map(({ job }) => job),
      ['nightly', 'nightly'],
    );
    // An increment that is cut off leaves the replica as it was.
    cut = 3 * MIB;
    await sh(`dd if=/dev/urandom of=${made.device} bs=1M count=16 conv=fsync`);
    assert.notEqual((await runJob(jobs, id)).problems.length, 0);
    assert.equal((await manager.statVolume('backup', 'vm1')).name, 'web server');
    assert.deepEqual((await runJob(jobs, id)).problems, []);
    await sameContents(made.device, replica.device);
    // One whose snapshot is gone is sent anew.
    cut = 3 * MIB;
    await sh(`dd if=/dev/urandom of=${made.device} bs=1M count=16 conv=fsync`);
    await runJob(jobs, id);
    const newest = (await snapshotsOf(manager, pool, 'vm1')).at(-1);
    await manager.destroyVolume(pool, newest.key);
    assert.deepEqual((await runJob(jobs, id)).problems, []);
    await sameContents(made.device, replica.device);
  },

  'an encrypted volume is sent as it is, without its key': async () => {
    const { manager, jobs, pool, id } = await twoPools();
    const encryption = { format: 'raw', key: randomBytes(32) };
    const made = await manager.createVolume({ pool, key: 'vm1', size: SIZE, encryption });
    write(made.device, 0, 1);
    await jobs.add(wishFor(pool));
    assert.deepEqual((await runJob(jobs, id)).problems, []);
    write(made.device, 0, 2);
    write(made.device, 9, 3);
    await sh(`zpool sync ${pool}`);
    assert.deepEqual((await runJob(jobs, id)).problems, []);
    assert.equal((await manager.statVolume('backup', 'vm1')).keyLoaded, false);
    // Also while the key is not loaded here either.
    await manager.unloadKey(pool, 'vm1');
    assert.deepEqual((await runJob(jobs, id)).problems, []);
    const { device } = await manager.loadKey('backup', 'vm1', encryption);
    assert.equal(read(device, 0), 2);
    assert.equal(read(device, 9), 3);
  },

  'a replica that was written to is left alone, until it is forced': async () => {
    const { manager, jobs, pool, id } = await twoPools();
    const made = await manager.createVolume({ pool, key: 'vm1', size: SIZE });
    write(made.device, 0, 1);
    await jobs.add(wishFor(pool));
    await runJob(jobs, id);
    const { device } = await manager.statVolume('backup', 'vm1');
    await sh('udevadm settle');
    write(device, 0, 99);
    await sh('zpool sync backup');
    write(made.device, 0, 2);
    assert.match((await runJob(jobs, id)).problems.join(), /--force/);
    assert.equal(read(device, 0), 99);
    assert.deepEqual((await runJob(jobs, id, true)).problems, []);
    await sh('udevadm settle');
    assert.equal(read(device, 0), 2);
    // A revert leaves snapshots there that are none here.
    const [first] = await snapshotsOf(manager, pool, 'vm1');
    await manager.revertVolume(pool, 'vm1', first.key);
    assert.match((await runJob(jobs, id)).problems.join(), /--force/);
    assert.deepEqual((await runJob(jobs, id, true)).problems, []);
    await sameContents(made.device, device);
  },

  'a received pool serves its volumes elsewhere, by their names and ids': async () => {
    const { manager, jobs, pool, id } = await twoPools();
    const made = await manager.createVolume({ pool, key: 'vm1', size: SIZE, name: 'web server' });
    write(made.device, 5, 7);
    await jobs.add(wishFor(pool));
    await runJob(jobs, id);
    const { guid } = await manager.statPool('backup');
    await manager.exportPool('backup');
    await manager.exportPool(pool);
    await manager.importPool(guid, { newName: 'other' });
    const [replica, snapshot] = await manager.listVolumes('other');
    assert.equal(replica.uuid, made.uuid);
    assert.equal(replica.name, 'web server');
    await sh('udevadm settle');
    assert.equal(read(replica.device, 5), 7);
    const clone = await manager.cloneVolume('other', snapshot.key, { key: 'vm2' });
    assert.equal(read(clone.device, 5), 7);
    for (const { key } of await manager.listVolumes('other'))
      await manager.destroyVolume('other', key);
    assert.deepEqual(await datasets('other'), []);
  },

  'by a command, as to another host': async () => {
    const { manager, pool, id } = await twoPools();
    const made = await manager.createVolume({ pool, key: 'vm1', size: SIZE });
    write(made.device, 0, 4);
    const { child, ended, ringdisk } = await started();
    try {
      const via = ['--to', 'backup', '--via', 'node /host/ringdisk/dist/ringdisk.cjs'];
      await ringdisk('volume', 'job', 'add', id, ...via, '--keep', 'last=1', '--limit', '50M');
      for (const byte of [5, 6]) {
        write(made.device, 0, byte);
        await sleep(1100);
        const { stdout } = await ringdisk('volume', 'job', 'run', id);
        assert.match(stdout, /result: +ok/);
      }
      const replica = await manager.statVolume('backup', 'vm1');
      await sh('udevadm settle');
      assert.equal(read(replica.device, 0), 6);
      assert.equal((await snapshotsOf(manager, 'backup', 'vm1')).length, 1);
      const { stdout } = await ringdisk('volume', 'receiving', 'backup');
      assert.match(stdout, /Nothing was cut off/);
    } finally {
      child.kill('SIGTERM');
    }
    assert.equal(await ended, 0);
  },
};
