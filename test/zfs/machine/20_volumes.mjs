// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { closeSync, existsSync, openSync } from 'node:fs';
import { datasets, disk, freshPool, GIB, MIB, manage, read, refused, write } from './pool.mjs';
import { run, sh } from './shell.mjs';

export const subject = 'volumes';

/** Alike for all that use the same seed. @param {number} seed */
function random(seed) {
  let state = seed;
  return (/** @type {number} */ below) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

export const tests = {
  'made, told of, changed; all of it in ZFS': async () => {
    const { manager, pool } = await freshPool();
    const made = await manager.createVolume({ pool, key: 'vm1', size: GIB + 1, keys: { a: '1' } });
    assert.equal(made.size, GIB + 16384);
    assert.equal(made.blockSize, 16384);
    assert.equal(made.thick, false);
    assert.ok(existsSync(made.device ?? ''));
    await refused(manager.createVolume({ pool, key: 'vm1', size: GIB }), 'VOLUME_EXISTS');
    await refused(manager.createVolume({ pool, key: 'x', size: 0 }), 'SIZE_INVALID');
    await refused(manager.createVolume({ pool, key: 'a/b', size: GIB }), 'NAME_INVALID');
    await refused(manager.createVolume({ pool: 'nopool', size: GIB }), 'POOL_UNKNOWN');
    const change = { name: '-', description: '', cbtEnabled: true, keys: { a: null, 'b c': '\n' } };
    await manager.setVolumeMetadata(pool, 'vm1', change);
    await manager.setVolumeProperties(pool, 'vm1', { compression: 'zstd', sync: 'always' });
    const wrong = { compression: 'none-such' };
    await refused(manager.setVolumeProperties(pool, 'vm1', wrong), 'PROPERTY_INVALID');
    // Another manager knows the same.
    const told = await (await manage()).statVolume(pool, 'vm1');
    assert.equal(told.name, '-');
    assert.equal(told.description, '');
    assert.equal(told.cbtEnabled, true);
    assert.deepEqual(told.keys, { 'b c': '\n' });
    assert.deepEqual(told.properties, { compression: 'zstd', sync: 'always' });
    const back = await manager.setVolumeProperties(pool, 'vm1', { sync: null });
    assert.deepEqual(back.properties, { compression: 'zstd' });
    assert.equal(await manager.destroyVolume(pool, 'vm1'), true);
    assert.equal(await manager.destroyVolume(pool, 'vm1'), false);
    await refused(manager.statVolume(pool, 'vm1'), 'VOLUME_UNKNOWN');
  },

  'thick ones are reserved, and grow so': async () => {
    const { manager, pool } = await freshPool({ disks: [disk(0), disk(1)] });
    const before = await manager.statPool(pool);
    const made = await manager.createVolume({ pool, key: 'vm1', size: GIB, thick: true });
    assert.equal(made.thick, true);
    const { freeBytes } = await manager.statPool(pool);
    assert.ok(before.freeBytes - freeBytes >= GIB);
    const grown = await manager.resizeVolume(pool, 'vm1', 1.5 * GIB);
    assert.equal(grown.thick, true);
    assert.equal(grown.size, 1.5 * GIB);
    await refused(manager.resizeVolume(pool, 'vm1', GIB), 'SIZE_INVALID');
    await refused(manager.resizeVolume(pool, 'vm1', 64 * GIB), 'POOL_FULL');
    const { key } = await manager.cloneVolume(pool, 'vm1');
    assert.equal((await manager.statVolume(pool, key)).thick, true);
    const thin = await manager.cloneVolume(pool, 'vm1', { thick: false });
    assert.equal(thin.thick, false);
  },

  'grows while it is open': async () => {
    const { manager, pool } = await freshPool();
    const { device = '' } = await manager.createVolume({ pool, key: 'vm1', size: 64 * MIB });
    const fd = openSync(device, 'r+');
    await manager.resizeVolume(pool, 'vm1', 128 * MIB);
    assert.equal(Number(await run('blockdev', '--getsize64', device)), 128 * MIB);
    closeSync(fd);
  },

  'renamed, but not while somebody has it': async () => {
    const { manager, pool } = await freshPool();
    const { device = '', uuid } = await manager.createVolume({ pool, key: 'vm1', size: 64 * MIB });
    write(device, 0, 7);
    await sh(`dmsetup create holder --table "0 8 linear ${device} 0"`);
    await refused(manager.renameVolume(pool, 'vm1', 'vm2'), 'VOLUME_BUSY');
    await refused(manager.destroyVolume(pool, 'vm1'), 'VOLUME_BUSY');
    await sh('dmsetup remove holder');
    const moved = await manager.renameVolume(pool, 'vm1', 'vm2');
    assert.equal(moved.uuid, uuid);
    assert.equal(read(moved.device ?? '', 0), 7);
    await refused(manager.statVolume(pool, 'vm1'), 'VOLUME_UNKNOWN');
  },

  'a discard gives space back': async () => {
    const { manager, pool } = await freshPool({ compression: 'off' });
    const { device = '' } = await manager.createVolume({ pool, key: 'vm1', size: 64 * MIB });
    for (let block = 0; block < 256; block++) write(device, block, 1);
    await run('zpool', 'sync', pool);
    const full = await manager.statVolume(pool, 'vm1');
    assert.ok(full.referenced > 15 * MIB);
    await sh(`blkdiscard ${device} && zpool sync ${pool}`);
    assert.ok((await manager.statVolume(pool, 'vm1')).referenced < MIB);
  },

  'an existing zvol is imported with what is in it': async () => {
    const { manager, pool } = await freshPool();
    await sh(`zfs create -V 64M ${pool}/old; udevadm settle`);
    write(`/dev/zvol/${pool}/old`, 3, 9);
    await run('zfs', 'snapshot', `${pool}/old@theirs`);
    const wish = { pool, dataset: `${pool}/old`, key: 'vm1' };
    const { device = '' } = await manager.importVolume(wish);
    assert.equal(read(device, 3), 9);
    assert.deepEqual(
      (await manager.listVolumes(pool)).map(({ key }) => key),
      ['vm1'],
    );
    // What others have made of it is never destroyed.
    await refused(manager.destroyVolume(pool, 'vm1'), 'VOLUME_FOREIGN');
    await run('zfs', 'destroy', `${pool}/ringdisk/vm1@theirs`);
    await manager.destroyVolume(pool, 'vm1');
  },

  'snapshots are read by a device of their own': async () => {
    const { manager, pool } = await freshPool();
    const { device = '' } = await manager.createVolume({ pool, key: 'vm1', size: 64 * MIB });
    write(device, 0, 1);
    const { key } = await manager.snapshotVolume(pool, 'vm1', { name: 'one' });
    write(device, 0, 2);
    const { device: shown } = await manager.exposeSnapshot(pool, key, 'backup');
    await manager.exposeSnapshot(pool, key, 'other');
    assert.equal(read(shown, 0), 1);
    assert.equal((await manager.statVolume(pool, key)).device, shown);
    await manager.hideSnapshot(pool, key, 'backup');
    assert.ok(existsSync(shown));
    await manager.hideSnapshot(pool, key, 'other');
    assert.equal((await manager.statVolume(pool, key)).device, undefined);
  },

  'reverted to any of its snapshots, which all stay': async () => {
    const { manager, pool } = await freshPool();
    const wish = { pool, key: 'vm1', size: 64 * MIB, name: 'mine', keys: { k: 'v' } };
    const before = await manager.createVolume(wish);
    const device = before.device ?? '';
    await manager.setVolumeProperties(pool, 'vm1', { sync: 'always' });
    const keys = [];
    for (const byte of [1, 2, 3]) {
      write(device, 0, byte);
      keys.push((await manager.snapshotVolume(pool, 'vm1', { name: `s${byte}` })).key);
    }
    write(device, 0, 4);
    for (const index of [2, 0, 1, 1, 2, 0]) {
      const now = await manager.revertVolume(pool, 'vm1', keys[index]);
      assert.equal(read(device, 0), index + 1);
      assert.equal(now.uuid, before.uuid);
      assert.equal(now.name, 'mine');
      assert.deepEqual(now.keys, { k: 'v' });
      assert.deepEqual(now.properties, { sync: 'always' });
      const all = (await manager.listVolumes(pool)).map(({ key }) => key).sort();
      assert.deepEqual(all, ['vm1', ...keys].sort());
      write(device, 0, 99);
    }
    const other = await manager.createVolume({ pool, size: 64 * MIB });
    await refused(manager.revertVolume(pool, other.key, keys[0]), 'NOT_A_SNAPSHOT');
    for (const { key } of await manager.listVolumes(pool)) await manager.destroyVolume(pool, key);
    assert.deepEqual(await datasets(pool), []);
  },

  'destroyed in any order, and nothing is left': async () => {
    const { manager, pool } = await freshPool();
    for (let seed = 1; seed <= 4; seed++) await randomLife(manager, pool, random(seed * 7919));
  },
};

/** Snapshots, clones of both, reverts and destroys at random, against a model of the contents. */
async function randomLife(manager, pool, pick) {
  /** @type {Map<string, { kind: string, byte: number, of?: string }>} */
  const model = new Map();
  let byte = 0;
  const devices = new Map();
  const add = (info, kind, contents, of) => {
    model.set(info.key, { kind, byte: contents, of });
    if (kind === 'volume') devices.set(info.key, info.device);
  };
  add(await manager.createVolume({ pool, size: 16 * MIB }), 'volume', 0);
  const destroy = async (key) => {
    assert.equal(await manager.destroyVolume(pool, key), true);
    model.delete(key);
  };
  for (let step = 0; step < 24; step++) {
    const keys = [...model.keys()];
    const key = keys[pick(keys.length)];
    const one = model.get(key);
    if (!one) {
      add(await manager.createVolume({ pool, size: 16 * MIB }), 'volume', 0);
      continue;
    }
    const action = pick(5);
    if (action === 0 && one.kind === 'volume') {
      byte = (byte % 250) + 1;
      write(devices.get(key), 0, byte);
      one.byte = byte;
    } else if (action === 1 && one.kind === 'volume') {
      add(await manager.snapshotVolume(pool, key), 'snapshot', one.byte, key);
    } else if (action === 2) {
      add(await manager.cloneVolume(pool, key), 'volume', one.byte);
    } else if (action === 3 && one.of && model.has(one.of)) {
      await manager.revertVolume(pool, one.of, key);
      model.get(one.of).byte = one.byte;
    } else if (action === 4) await destroy(key);
    await compare(manager, pool, model, devices);
  }
  for (const key of [...model.keys()].sort(() => pick(3) - 1)) await destroy(key);
  assert.deepEqual(await datasets(pool), []);
}

async function compare(manager, pool, model, devices) {
  const told = await manager.listVolumes(pool);
  assert.deepEqual(told.map(({ key }) => key).sort(), [...model.keys()].sort());
  for (const [key, { kind, byte }] of model) {
    if (kind === 'volume') assert.equal(read(devices.get(key), 0), byte, `contents of ${key}`);
  }
}
