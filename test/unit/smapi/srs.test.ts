// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { createLogger } from '../../../src/log.ts';
import type { Disks } from '../../../src/smapi/disks.ts';
import { srCalls } from '../../../src/smapi/srs.ts';
import { makeManager, openContext } from '../../../src/volume/manager.ts';
import { ModelZfs } from '../../support/model_zfs.ts';

describe('SR.ls', () => {
  it('has replicas, but no snapshots that a replication job comes and goes with', async () => {
    const zfs = new ModelZfs('tank');
    const manager = makeManager(await openContext(createLogger({ level: 'silent' }), zfs.run));
    const pool = 'tank';
    await manager.createVolume({ pool, key: 'vm1', size: 4096 });
    await zfs.run('zfs', ['set', 'ringdisk:replica=other/nightly', 'tank/ringdisk/vm1']);
    await manager.snapshotVolume(pool, 'vm1', { key: 'jobs', job: 'nightly' });
    await manager.snapshotVolume(pool, 'vm1', { key: 'mine' });
    expect(await manager.listVolumes(pool)).toHaveLength(3);
    const listed = await srCalls({ manager, disks: {} as Disks })['SR.ls']({ sr: pool });
    expect(listed.map(({ key }) => key).sort()).toEqual(['mine', 'vm1']);
  });
});
