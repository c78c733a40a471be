// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { datasets, freshPool, MIB, read, refused, write } from './pool.mjs';

export const subject = 'encryption';

const size = 16 * MIB;

export const tests = {
  'a volume of each kind of key, over export and import': async () => {
    const { manager, pool } = await freshPool();
    const raw = randomBytes(32);
    const forms = {
      raw: { format: 'raw', key: raw },
      hex: { format: 'hex', key: Buffer.from(raw.toString('hex')) },
      passphrase: { format: 'passphrase', key: Buffer.from('correct horse\n') },
    };
    for (const [key, encryption] of Object.entries(forms)) {
      const made = await manager.createVolume({ pool, key, size, encryption });
      assert.equal(made.keyLoaded, true);
      write(made.device, 0, 5);
    }
    const { guid } = await manager.statPool(pool);
    await manager.exportPool(pool);
    await manager.importPool(guid);
    for (const [key, encryption] of Object.entries(forms)) {
      assert.equal((await manager.statVolume(pool, key)).keyLoaded, false);
      const wrong = { ...encryption, key: Buffer.from(encryption.key.map((byte) => byte ^ 1)) };
      if (key !== 'hex') await refused(manager.loadKey(pool, key, wrong), 'KEY_WRONG');
      const { device } = await manager.loadKey(pool, key, encryption);
      assert.equal(read(device, 0), 5);
      assert.equal((await manager.unloadKey(pool, key)).keyLoaded, false);
    }
    const short = { format: 'raw', key: Buffer.from('short') };
    await refused(manager.createVolume({ pool, size, encryption: short }), 'KEY_WRONG');
  },

  'snapshots, clones, reverts and destroys of it': async () => {
    const { manager, pool } = await freshPool();
    const encryption = { format: 'raw', key: randomBytes(32) };
    const made = await manager.createVolume({ pool, key: 'vm1', size, encryption });
    write(made.device, 0, 1);
    const one = await manager.snapshotVolume(pool, 'vm1');
    write(made.device, 0, 2);
    await manager.snapshotVolume(pool, 'vm1');
    await manager.revertVolume(pool, 'vm1', one.key);
    assert.equal(read(made.device, 0), 1);
    const clone = await manager.cloneVolume(pool, 'vm1', { key: 'vm2' });
    await manager.destroyVolume(pool, 'vm1');
    assert.equal(read(clone.device, 0), 1);
    for (const info of await manager.listVolumes(pool)) await manager.destroyVolume(pool, info.key);
    assert.deepEqual(await datasets(pool), []);
  },
};
