// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { datasets, freshPool, MIB, refused, write } from './pool.mjs';
import { sh } from './shell.mjs';

export const subject = 'changed blocks';

const CHUNK = 64 * 1024;

/** @param {Buffer} bitmap @returns {number[]} chunks that have changed */
function chunks(bitmap) {
  return [...bitmap].flatMap((byte, at) =>
    [0, 1, 2, 3, 4, 5, 6, 7].filter((bit) => byte & (0x80 >> bit)).map((bit) => at * 8 + bit),
  );
}

export const tests = {
  'between snapshots, to now, and from a bookmark that costs nothing': async () => {
    const { manager, pool } = await freshPool();
    const { key, device } = await manager.createVolume({ pool, size: 64 * MIB });
    for (let block = 0; block < 16; block++) write(device, block, 1);
    // What comes behind all that a volume has had may be told with the hole before it.
    write(device, 950, 1);
    const one = await manager.snapshotVolume(pool, key);
    write(device, 3, 2);
    write(device, 900, 2);
    const two = await manager.snapshotVolume(pool, key);
    const told = async (from, to) =>
      chunks((await manager.changedBlocks(pool, from, to, CHUNK)).bitmap);
    assert.deepEqual(await told(one.key, two.key), [3, 900]);
    write(device, 5, 3);
    await sh(`blkdiscard -o ${8 * CHUNK} -l ${CHUNK} ${device}; zpool sync ${pool}`);
    assert.deepEqual(await told(two.key, key), [5, 8]);
    assert.deepEqual(await told(one.key, key), [3, 5, 8, 900]);
    const mark = await manager.destroyData(pool, one.key);
    assert.equal(mark.kind, 'bookmark');
    assert.equal(mark.uuid, one.uuid);
    assert.deepEqual(await manager.destroyData(pool, one.key), mark);
    assert.deepEqual(await told(one.key, two.key), [3, 900]);
    assert.deepEqual(await told(one.key, key), [3, 5, 8, 900]);
    await refused(manager.changedBlocks(pool, two.key, one.key, CHUNK), 'NOT_A_SNAPSHOT');
    const named = await manager.setVolumeMetadata(pool, one.key, { keys: { a: 'b' } });
    assert.deepEqual(named.keys, { a: 'b' });
    await manager.resizeVolume(pool, key, 65 * MIB);
    const grown = await told(two.key, key);
    assert.deepEqual(grown.slice(0, 3), [5, 8, 1024]);
    for (const info of await manager.listVolumes(pool)) await manager.destroyVolume(pool, info.key);
    assert.deepEqual(await datasets(pool), []);
  },
};
