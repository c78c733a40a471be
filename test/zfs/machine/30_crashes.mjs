// SPDX-License-Identifier: Apache-2.0
// The manager dies before each command of ZFS that changes something, in every call of several.
// The next manager must find the call done or not begun, and be able to make it; in the end nothing
// may be left.
import assert from 'node:assert/strict';
import { runCommand } from '/host/ringdisk/dist/zfs/command.js';
import { datasets, freshPool, MIB, manage, read, write } from './pool.mjs';

export const subject = 'crashes';

const READS = ['get', 'list', 'status'];

/** Runs commands until the one with this number, from 0; then it and all others fail. */
function dying(step) {
  let changes = 0;
  const life = { dead: false, changes: () => changes };
  const run = async (program, args, options) => {
    const isChange = /^(zfs|zpool)$/.test(program) && !READS.includes(args[0]);
    if (life.dead || (isChange && changes === step)) {
      life.dead = true;
      throw new Error('died');
    }
    if (isChange) changes++;
    return runCommand(program, args, options);
  };
  return { run, life };
}

/**
 * @param {(pool: string, manager: any) => Promise<any>} prepare makes what the call needs
 * @param {(pool: string, manager: any, made: any) => Promise<unknown>} call
 * @param {(pool: string, manager: any, made: any) => Promise<'before' | 'after'>} look judges it
 */
async function dieAtEachStep(prepare, call, look) {
  const { pool } = await freshPool();
  const seen = [];
  for (let step = 0; ; step++) {
    const first = await manage();
    const made = await prepare(pool, first);
    const { run, life } = dying(step);
    const victim = await manage(run);
    const died = await call(pool, victim, made).then(
      () => false,
      (error) => {
        if (error.message !== 'died' && !life.dead) throw error;
        return true;
      },
    );
    const next = await manage();
    const state = await look(pool, next, made);
    seen.push(state);
    if (!died) assert.equal(state, 'after');
    if (state === 'before') await call(pool, next, made);
    assert.equal(await look(pool, next, made), 'after');
    for (const { key } of await next.listVolumes(pool)) await next.destroyVolume(pool, key);
    assert.deepEqual(await datasets(pool), [], `after a death before change ${step}`);
    // Nothing was left to die before.
    if (!life.dead) break;
  }
  assert.ok(seen.length > 1, 'the call has no steps');
  assert.ok(seen.includes('before'));
}

const size = 16 * MIB;

async function volumeWithSnapshots(pool, manager) {
  const { key, device } = await manager.createVolume({ pool, size });
  const snapshots = [];
  for (const byte of [1, 2]) {
    write(device, 0, byte);
    snapshots.push((await manager.snapshotVolume(pool, key)).key);
  }
  write(device, 0, 3);
  return { key, device, snapshots };
}

const has = async (manager, pool, key) =>
  (await manager.listVolumes(pool)).some((info) => info.key === key);

export const tests = {
  'clone of a volume': () =>
    dieAtEachStep(
      volumeWithSnapshots,
      (pool, manager, { key }) => manager.cloneVolume(pool, key, { key: 'copy' }),
      async (pool, manager) => {
        if (!(await has(manager, pool, 'copy'))) return 'before';
        const { device } = await manager.statVolume(pool, 'copy');
        assert.equal(read(device, 0), 3);
        return 'after';
      },
    ),

  'revert to an older snapshot': () =>
    dieAtEachStep(
      volumeWithSnapshots,
      (pool, manager, { key, snapshots }) => manager.revertVolume(pool, key, snapshots[0]),
      async (pool, manager, { key, device, snapshots }) => {
        const keys = (await manager.listVolumes(pool)).map((info) => info.key).sort();
        assert.deepEqual(keys, [key, ...snapshots].sort());
        assert.equal((await manager.statVolume(pool, key)).key, key);
        const byte = read(device, 0);
        assert.ok(byte === 3 || byte === 1, `it holds ${byte}`);
        return byte === 3 ? 'before' : 'after';
      },
    ),

  'destroy of a volume with snapshots and clones': () =>
    dieAtEachStep(
      async (pool, manager) => {
        const made = await volumeWithSnapshots(pool, manager);
        await manager.cloneVolume(pool, made.snapshots[0], { key: 'copy' });
        await manager.cloneVolume(pool, made.key, { key: 'live-copy' });
        return made;
      },
      (pool, manager, { key }) => manager.destroyVolume(pool, key),
      async (pool, manager, { key, snapshots }) => {
        const keys = (await manager.listVolumes(pool)).map((info) => info.key);
        for (const other of [...snapshots, 'copy', 'live-copy']) assert.ok(keys.includes(other));
        assert.equal(read((await manager.statVolume(pool, 'copy')).device, 0), 1);
        assert.equal(read((await manager.statVolume(pool, 'live-copy')).device, 0), 3);
        return keys.includes(key) ? 'before' : 'after';
      },
    ),

  'destroy of the last snapshot of a volume that is gone': () =>
    dieAtEachStep(
      async (pool, manager) => {
        const { key, snapshots } = await volumeWithSnapshots(pool, manager);
        await manager.cloneVolume(pool, snapshots[1], { key: 'copy' });
        await manager.destroyVolume(pool, key);
        await manager.destroyVolume(pool, snapshots[1]);
        return { snapshot: snapshots[0] };
      },
      (pool, manager, { snapshot }) => manager.destroyVolume(pool, snapshot),
      async (pool, manager, { snapshot }) =>
        (await has(manager, pool, snapshot)) ? 'before' : 'after',
    ),

  'data of a snapshot': () =>
    dieAtEachStep(
      volumeWithSnapshots,
      (pool, manager, { snapshots }) => manager.destroyData(pool, snapshots[0]),
      async (pool, manager, { snapshots }) => {
        const { kind, snapshotOf } = await manager.statVolume(pool, snapshots[0]);
        assert.ok(snapshotOf);
        return kind === 'bookmark' ? 'after' : 'before';
      },
    ),

  'import of a zvol': () =>
    dieAtEachStep(
      async (pool) => {
        await runCommand('zfs', ['destroy', '-r', `${pool}/theirs`]).catch(() => {});
        await runCommand('zfs', ['create', '-V', '16M', `${pool}/theirs`]);
        await runCommand('udevadm', ['settle']);
      },
      (pool, manager) => manager.importVolume({ pool, dataset: `${pool}/theirs`, key: 'mine' }),
      async (pool, manager) => ((await has(manager, pool, 'mine')) ? 'after' : 'before'),
    ),

  'two calls at once on one volume come one after the other': async () => {
    const { manager, pool } = await freshPool();
    const { key, device } = await manager.createVolume({ pool, size });
    write(device, 0, 1);
    const { key: snapshot } = await manager.snapshotVolume(pool, key);
    write(device, 0, 2);
    const calls = [
      ...Array.from({ length: 4 }, () => manager.snapshotVolume(pool, key)),
      ...Array.from({ length: 3 }, () => manager.cloneVolume(pool, key)),
      ...Array.from({ length: 5 }, (_, i) =>
        manager.setVolumeMetadata(pool, key, { keys: { [`k${i}`]: String(i) } }),
      ),
      manager.revertVolume(pool, key, snapshot),
      manager.resizeVolume(pool, key, 2 * size),
      ...Array.from({ length: 3 }, () => manager.listVolumes(pool)),
    ];
    const lists = (await Promise.all(calls)).slice(-3);
    for (const list of lists) assert.ok(list.some((info) => info.key === key));
    const { keys } = await manager.statVolume(pool, key);
    assert.deepEqual(Object.keys(keys).sort(), ['k0', 'k1', 'k2', 'k3', 'k4']);
    for (const info of await manager.listVolumes(pool)) await manager.destroyVolume(pool, info.key);
    assert.deepEqual(await datasets(pool), []);
  },
};
