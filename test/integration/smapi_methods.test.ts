// SPDX-License-Identifier: Apache-2.0
// SRs and volumes by XAPI's calls, in the order in which it makes them, through the executables and
// the socket. The volumes are files; what ZFS itself does is tried on ZFS.
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ManagerError } from '../../src/volume/manager_types.ts';
import { SmapiHost } from '../support/smapi_host.ts';

const UUID = '5c1f0a2b-0000-4000-8000-000000000001';
const MIB = 1024 * 1024;

let host: SmapiHost;
let disk: string;
beforeEach(async () => {
  host = await SmapiHost.start();
  disk = path.join(host.folder, 'sdb');
  writeFileSync(disk, '');
});
afterEach(async () => {
  await host.end();
});

async function makeSr(configuration: Record<string, string> = {}): Promise<string> {
  const wish = { uuid: UUID, name: 'zfs', description: 'd' };
  const whole = { device: disk, layout: 'stripe', ...configuration };
  const made = await host.call('SR.create', { ...wish, configuration: whole });
  return host.call('SR.attach', { configuration: made });
}

async function makeVolume(sr: string, size = 10 * MIB) {
  const wish = { name: 'disk0', description: '', size, sharable: false };
  const volume = await host.call('Volume.create', { sr, ...wish });
  const set = { sr, key: volume.key, k: 'vdi-type', v: 'user' };
  expect(await host.call('Volume.set', set)).toBeNull();
  return volume;
}

describe('an SR', () => {
  test('is made, attached, looked at, given away and found again', async () => {
    const sr = await makeSr({ thick: 'true', blocksize: '32K' });
    expect(sr).toBe('sr-5c1f0a2b');
    const stat = await host.call('SR.stat', { sr });
    expect(stat).toMatchObject({ sr, uuid: UUID, name: 'zfs', description: 'd', datasources: [] });
    expect(stat.health[0]).toBe('Healthy');
    await host.call('SR.set_name', { sr, new_name: 'other' });
    await host.call('SR.set_description', { sr, new_description: 'words' });
    expect(await host.call('SR.ls', { sr })).toEqual([]);
    const [{ configuration, sr: probed }] = await host.call('SR.probe', { configuration: {} });
    expect(configuration.sr_uuid).toBe(UUID);
    expect(probed).toMatchObject({ name: 'other', description: 'words' });
    expect(await host.call('SR.detach', { sr })).toBeNull();
    expect(await host.call('SR.detach', { sr })).toBeNull();
    expect((await host.failure('SR.stat', { sr })).code).toBe('Sr_not_attached');
    const { sr_uuid: _, ...kept } = configuration;
    expect(await host.call('SR.attach', { configuration: kept })).toBe(sr);
  });

  test('that was made for the same uuid before is done', async () => {
    await makeSr();
    expect(await makeSr()).toBe('sr-5c1f0a2b');
  });

  test('without a disk is refused in the words that users of XAPI know', async () => {
    const wish = { uuid: UUID, name: 'zfs', description: '', configuration: {} };
    expect(await host.failure('SR.create', wish)).toMatchObject({
      code: 'SR_BACKEND_FAILURE_90',
      params: ['', 'The request is missing the device parameter', ''],
    });
  });

  test('with words that nobody knows is refused, and each is named', async () => {
    const of = async (configuration: object) => {
      const wish = { uuid: UUID, name: 'zfs', description: '', configuration };
      return (await host.failure('SR.create', wish)).params[2];
    };
    expect(await of({ device: disk, layout: 'raid5' })).toMatch(/layout is "raid5", not one of/);
    expect(await of({ device: disk, ashift: '3' })).toMatch(/ashift is "3", not a number from 9/);
    expect(await of({ device: disk, blocksize: '5000' })).toMatch(/blocksize/);
  });

  test('whose list is not certain has none: XAPI would forget every volume', async () => {
    const sr = await makeSr();
    await makeVolume(sr);
    host.volumes.broken = new ManagerError('ZFS_MISSING', 'the module is not loaded');
    const { health } = await host.call('SR.stat', { sr });
    expect(health).toEqual(['Unavailable', 'the module is not loaded']);
    expect(await host.failure('SR.ls', { sr })).toMatchObject({
      code: 'SR_BACKEND_FAILURE_47',
      params: ['', 'The SR is not available', 'the module is not loaded'],
    });
    host.volumes.broken = undefined;
    expect(await host.call('SR.ls', { sr })).toHaveLength(1);
  });
});

describe('a volume', () => {
  test('is what was asked for, and keeps XAPI’s words', async () => {
    const sr = await makeSr();
    const { key } = await makeVolume(sr, 1_000_001);
    const stat = await host.call('Volume.stat', { sr, key });
    expect(stat).toMatchObject({
      name: 'disk0',
      read_write: true,
      virtual_size: 1_015_808,
      uri: [`ringdisk://sr-5c1f0a2b/${key}`],
      keys: { 'vdi-type': 'user' },
    });
    await host.call('Volume.set_name', { sr, key, new_name: 'x' });
    await host.call('Volume.set_description', { sr, key, new_description: 'y' });
    await host.call('Volume.unset', { sr, key, k: 'vdi-type' });
    await host.call('Volume.unset', { sr, key, k: 'vdi-type' });
    expect(await host.call('SR.ls', { sr })).toMatchObject([
      { key, name: 'x', description: 'y', keys: {} },
    ]);
  });

  test('of no size, one that is too large, or a smaller one, is refused', async () => {
    const sr = await makeSr();
    const { key } = await makeVolume(sr);
    const failures = await Promise.all([
      host.failure('Volume.create', wishOf(sr, 0)),
      host.failure('Volume.create', wishOf(sr, 2 ** 63)),
      host.failure('Volume.resize', { sr, key, new_size: MIB }),
    ]);
    for (const { code, params } of failures) {
      expect([code, params[1]]).toEqual(['SR_BACKEND_FAILURE_79', 'VDI Invalid size']);
    }
    expect(await host.call('Volume.resize', { sr, key, new_size: 20 * MIB })).toBeNull();
    expect((await host.call('Volume.stat', { sr, key })).virtual_size).toBe(20 * MIB);
  });

  test('that is not there is named, and may be destroyed all the same', async () => {
    const sr = await makeSr();
    expect(await host.failure('Volume.stat', { sr, key: 'k' })).toMatchObject({
      code: 'Volume_does_not_exist',
      params: ['k'],
    });
    const { key } = await makeVolume(sr);
    for (let twice = 0; twice < 2; twice++) {
      expect(await host.call('Volume.destroy', { sr, key })).toBeNull();
    }
  });

  test('is snapshotted, cloned, reverted and told apart as XAPI does it', async () => {
    const sr = await makeSr();
    const { key } = await makeVolume(sr);
    const snapshot = await host.call('Volume.snapshot', { sr, key });
    expect(snapshot).toMatchObject({ name: 'disk0', read_write: false });
    const words = { snapshot_time: '20261128T13:38:07Z', is_a_snapshot: 'true', snapshot_of: key };
    for (const [k, v] of Object.entries(words)) {
      await host.call('Volume.set', { sr, key: snapshot.key, k, v });
    }
    await host.call('Volume.set', { sr, key, k: 'tagst1', v: 't1' });
    const clone = await host.call('Volume.clone', { sr, key: snapshot.key });
    expect(clone.read_write).toBe(true);
    const revert = { sr, key, snapshot: snapshot.key };
    expect(await host.call('Volume.revert', revert)).toBeNull();
    const listed = await host.call('SR.ls', { sr });
    expect(listed.map((one: { key: string }) => one.key)).toEqual([key, snapshot.key, clone.key]);
    expect(listed[1].keys).toEqual(words);
  });

  test('that somebody else has snapshotted has snapshots with all that XAPI wants', async () => {
    const sr = await makeSr();
    const { key } = await makeVolume(sr);
    const made = await host.volumes.snapshotVolume(sr, key, { key: 's1' });
    const time = `${new Date(made.created * 1000).toISOString().replaceAll('-', '').slice(0, 17)}Z`;
    const keys = { is_a_snapshot: 'true', snapshot_time: time, snapshot_of: key };
    expect(time).toMatch(/^\d{8}T\d\d:\d\d:\d\dZ$/);
    expect((await host.call('SR.ls', { sr }))[1]).toMatchObject({ key: 's1', keys });
    expect((await host.call('Volume.stat', { sr, key: 's1' })).keys).toEqual(keys);
    await host.call('Volume.set', { sr, key: 's1', k: 'snapshot_of', v: 'XAPI’s word' });
    const { keys: told } = await host.call('Volume.stat', { sr, key: 's1' });
    expect(told).toEqual({ ...keys, snapshot_of: 'XAPI’s word' });
    // Whose volume has gone is nobody's snapshot.
    await host.volumes.destroyVolume(sr, key);
    await host.call('Volume.unset', { sr, key: 's1', k: 'snapshot_of' });
    const { keys: left } = await host.call('Volume.stat', { sr, key: 's1' });
    expect(left).toEqual({ is_a_snapshot: 'true', snapshot_time: time });
  });

  test('tells its changed blocks in whole words, also when the older data is gone', async () => {
    const sr = await makeSr();
    const { key } = await makeVolume(sr);
    await host.call('Volume.enable_cbt', { sr, key });
    const first = await host.call('Volume.snapshot', { sr, key });
    expect(first.cbt_enabled).toBe(true);
    const data = Buffer.alloc(10 * MIB);
    data[3 * 65536 + 5] = 1;
    data[10 * MIB - 1] = 1;
    writeFileSync(path.join(host.folder, sr, key), data);
    const second = await host.call('Volume.snapshot', { sr, key });
    const request = { sr, key: first.key, key2: second.key, offset: 0, length: -1 };
    const before = await host.call('Volume.list_changed_blocks', request);
    const bits = Buffer.from(before.bitmap, 'base64');
    expect([before.granularity, bits.length, bits[0], bits[19]]).toEqual([65536, 20, 0x10, 0x01]);
    expect(await host.call('Volume.data_destroy', { sr, key: first.key })).toBeNull();
    await host.call('Volume.set', { sr, key: first.key, k: 'vdi-type', v: 'cbt_metadata' });
    expect(await host.call('Volume.list_changed_blocks', request)).toEqual(before);
    const part = { ...request, offset: 3 * 65536, length: 65536 };
    expect((await host.call('Volume.list_changed_blocks', part)).bitmap).toBe('gAAAAA==');
  });
});

test('calls for one volume come one after the other, those for others beside', async () => {
  const sr = await makeSr();
  const { key } = await makeVolume(sr);
  const sets = Array.from({ length: 8 }, (_, n) =>
    host.call('Volume.set', { sr, key, k: `k${n}`, v: String(n) }),
  );
  await Promise.all(sets);
  const { keys } = await host.call('Volume.stat', { sr, key });
  expect(Object.keys(keys)).toHaveLength(9);
});

function wishOf(sr: string, size: number) {
  return { sr, name: 'n', description: '', size, sharable: false };
}
