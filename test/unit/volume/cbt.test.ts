// SPDX-License-Identifier: Apache-2.0
import { expect, test } from 'vitest';
import { createLogger } from '../../../src/log.ts';
import { openManager } from '../../../src/volume/manager.ts';
import { ModelZfs } from '../../support/model_zfs.ts';

test('whether changed blocks are wanted goes to snapshots, clones and bookmarks', async () => {
  const zfs = new ModelZfs('tank');
  const manager = await openManager(createLogger({ level: 'silent' }), zfs.run);
  await manager.createVolume({ pool: 'tank', key: 'vm1', size: 4096 });
  expect((await manager.snapshotVolume('tank', 'vm1', { key: 'before' })).cbtEnabled).toBe(false);
  await manager.setVolumeMetadata('tank', 'vm1', { cbtEnabled: true });
  expect((await manager.snapshotVolume('tank', 'vm1', { key: 's1' })).cbtEnabled).toBe(true);
  expect((await manager.cloneVolume('tank', 's1', { key: 'vm2' })).cbtEnabled).toBe(true);
  expect((await manager.snapshotVolume('tank', 'vm1', { key: 's2' })).cbtEnabled).toBe(true);
  expect(await manager.destroyData('tank', 's2')).toMatchObject({
    kind: 'bookmark',
    cbtEnabled: true,
  });
});
