// SPDX-License-Identifier: Apache-2.0
// Replication jobs, on a model of ZFS with two pools. test/zfs does the like on the real one.
import { describe, expect, it } from 'vitest';
import { createLogger } from '../../../src/log.ts';
import { HostKey } from '../../../src/replication/host_key.ts';
import { Jobs } from '../../../src/replication/jobs.ts';
import { makeManager, openContext } from '../../../src/volume/manager.ts';
import type { VolumeInfo, VolumeManager } from '../../../src/volume/manager_types.ts';
import { ModelStreams } from '../../support/model_streams.ts';
import { ModelZfs } from '../../support/model_zfs.ts';

const log = createLogger({ level: process.env['TEST_LOG'] ? 'debug' : 'silent' });
const HOUR = 3600_000;
const KEEP = { keep: 'last=3', keepThere: 'last=5' };

class Host {
  readonly zfs = new ModelZfs('tank', 'backup');
  readonly streams = new ModelStreams(this.zfs);
  manager!: VolumeManager;
  jobs!: Jobs;
  hostKey = new HostKey();
  clock = Date.parse('2026-11-30T00:00:00Z');

  static async start(): Promise<Host> {
    const host = new Host();
    await host.restart();
    return host;
  }

  /** Another manager, which knows what ZFS knows. */
  async restart(): Promise<void> {
    const { zfs, streams, hostKey } = this;
    zfs.now = this.clock / 1000;
    const context = await openContext(log, zfs.run);
    this.manager = makeManager(context);
    const now = () => this.clock;
    const { manager } = this;
    this.jobs = new Jobs({ context, manager, start: streams.start, hostKey, log, now });
  }

  later(ms: number): void {
    this.clock += ms;
    this.zfs.now = this.clock / 1000;
  }

  create(key: string): Promise<VolumeInfo> {
    return this.manager.createVolume({ pool: 'tank', key, size: 4096, name: `disk ${key}` });
  }

  async write(pool: string, key: string, content: number): Promise<void> {
    this.zfs.write((await this.manager.statVolume(pool, key)).dataset, content);
  }

  /** Runs a job to its end, an hour later. */
  async run(id: string, force = false) {
    this.later(HOUR);
    await this.jobs.run(id, force);
    return this.ended(id);
  }

  async ended(id: string) {
    for (;;) {
      const info = await this.jobs.show(id);
      if (info.state === 'idle') return info.last;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  async snapshots(pool: string, key: string): Promise<VolumeInfo[]> {
    const all = await this.manager.listVolumes(pool);
    const volume = all.find((one) => one.key === key);
    return all.filter(({ kind, dataset }) => {
      return kind === 'snapshot' && dataset.startsWith(`${volume?.dataset}@`);
    });
  }
}

const id = 'tank/nightly';
const add = { pool: 'tank', name: 'nightly', to: { pool: 'backup' }, ...KEEP };

describe('a replication job', () => {
  it('makes volumes with the same names and ids, and brings them up to date', async () => {
    const host = await Host.start();
    const made = await host.create('vm1');
    await host.create('vm2');
    await host.write('tank', 'vm1', 7);
    await host.jobs.add(add);
    expect(await host.run(id)).toMatchObject({ problems: [], volumes: 2, volumesDone: 2 });
    const replica = await host.manager.statVolume('backup', 'vm1');
    const { key, uuid, name, size } = made;
    expect(replica).toMatchObject({ key, uuid, name, size, replicaOf: id, kind: 'volume' });
    expect(host.zfs.read(replica.dataset)).toBe(7);
    await host.write('tank', 'vm1', 8);
    await host.run(id);
    expect(host.zfs.read(replica.dataset)).toBe(8);
    // The second time only what has changed.
    expect(host.streams.sent.filter((text) => / -i /.test(text))).toHaveLength(2);
    const [one, two] = await host.snapshots('backup', 'vm1');
    expect([one?.job, two?.job]).toEqual(['nightly', 'nightly']);
    expect(two?.name).toBe('nightly-20261130T020000Z');
    expect(await host.snapshots('tank', 'vm1')).toMatchObject([
      { key: one?.key, uuid: one?.uuid },
      { key: two?.key, uuid: two?.uuid },
    ]);
  });

  it('keeps what it is told to, never what others have made', async () => {
    const host = await Host.start();
    await host.create('vm1');
    await host.manager.snapshotVolume('tank', 'vm1', { key: 'mine', name: 'monday' });
    await host.jobs.add(add);
    for (let run = 0; run < 8; run++) {
      await host.write('tank', 'vm1', run + 1);
      expect((await host.run(id))?.problems).toEqual([]);
    }
    const here = await host.snapshots('tank', 'vm1');
    const there = await host.snapshots('backup', 'vm1');
    expect(here.map(({ job }) => job)).toEqual([undefined, 'nightly', 'nightly', 'nightly']);
    expect(there).toHaveLength(5);
    expect(here.at(-1)?.uuid).toBe(there.at(-1)?.uuid);
  });

  it('goes on where a stream broke, and names what has arrived so', async () => {
    const host = await Host.start();
    const made = await host.create('vm1');
    await host.write('tank', 'vm1', 5);
    host.zfs.payloadBytes = 100_000;
    host.streams.cutAfter = 60_000;
    await host.jobs.add({ ...add, schedule: 'every 1d' });
    const broken = await host.run(id);
    expect(broken?.problems.join()).toMatch(/tank\/vm1: .*SIGKILL/);
    // What has come by then is no volume yet.
    expect((await host.manager.listVolumes('backup')).map(({ key }) => key)).toEqual([]);
    // It is tried again a minute later, also by another manager, and makes no snapshot for it.
    expect((await host.jobs.show(id)).next).toBe(host.clock + 60_000);
    await host.restart();
    host.later(61_000);
    await host.jobs.tick();
    const last = await host.ended(id);
    expect(last).toMatchObject({ problems: [], failures: 0 });
    expect(last?.bytes).toBeLessThan(50_000);
    expect(host.streams.sent.at(-1)).toMatch(/^send -t /);
    const { uuid, size } = made;
    expect(await host.manager.statVolume('backup', 'vm1')).toMatchObject({ uuid, size });
    const [snapshot] = await host.snapshots('backup', 'vm1');
    expect(await host.snapshots('tank', 'vm1')).toMatchObject([{ uuid: snapshot?.uuid }]);
  });

  it('sends anew what was cut off where the snapshot is gone', async () => {
    const host = await Host.start();
    await host.create('vm1');
    host.zfs.payloadBytes = 100_000;
    await host.jobs.add(add);
    host.streams.cutAfter = 60_000;
    await host.run(id);
    const [only] = await host.snapshots('tank', 'vm1');
    await host.manager.destroyVolume('tank', only?.key ?? '');
    expect(await host.run(id)).toMatchObject({ problems: [], volumesDone: 1 });
    expect((await host.manager.statVolume('backup', 'vm1')).replicaOf).toBe(id);
  });

  it('names what had arrived when the receiver died', async () => {
    const host = await Host.start();
    await host.create('vm1');
    await host.jobs.add(add);
    await host.run(id);
    const [there] = await host.snapshots('backup', 'vm1');
    for (const property of ['uuid', 'name', 'of', 'job']) {
      await host.zfs.run('zfs', ['inherit', `ringdisk:${property}`, there?.dataset ?? '']);
    }
    expect(await host.snapshots('backup', 'vm1')).toEqual([]);
    expect((await host.run(id))?.problems).toEqual([]);
    expect((await host.snapshots('backup', 'vm1'))[0]).toEqual(there);
  });

  it('writes to no volume that is none of its replicas', async () => {
    const host = await Host.start();
    const { uuid } = await host.create('vm1');
    const taken = { pool: 'backup', key: 'vm1', size: 4096 };
    await host.manager.createVolume(taken);
    await host.jobs.add(add);
    expect((await host.run(id))?.problems.join()).toMatch(/backup has another volume vm1/);
    // Its own id, yet somebody's disk: the other of two hosts that send to each other.
    await host.zfs.run('zfs', ['set', `ringdisk:uuid=${uuid}`, 'backup/ringdisk/vm1']);
    const refused = await host.run(id);
    expect(refused?.problems.join()).toMatch(/vm1 is a volume in its own right, not a replica/);
  });

  it('sends no replicas on: two pools may be each other’s backup', async () => {
    const host = await Host.start();
    await host.create('vm1');
    await host.manager.createVolume({ pool: 'backup', key: 'vm2', size: 4096 });
    await host.jobs.add(add);
    await host.jobs.add({ ...add, pool: 'backup', to: { pool: 'tank' } });
    for (let run = 0; run < 3; run++) {
      expect(await host.run(id)).toMatchObject({ problems: [], volumes: 1 });
      expect(await host.run('backup/nightly')).toMatchObject({ problems: [], volumes: 1 });
    }
    const refused = host.jobs.add({ ...add, name: 'other', volumes: ['vm2'] });
    await expect(refused).rejects.toThrow(/vm2 is a replica, which the job backup\/nightly writes/);
  });

  it('stops at a replica that somebody has written to, until it is forced', async () => {
    const host = await Host.start();
    await host.create('vm1');
    await host.jobs.add(add);
    await host.run(id);
    await host.write('backup', 'vm1', 99);
    await host.write('tank', 'vm1', 2);
    const refused = await host.run(id);
    expect(refused?.problems.join()).toMatch(
      /is not as it was left.*job run tank\/nightly --force/,
    );
    expect(host.zfs.read('backup/ringdisk/vm1')).toBe(99);
    expect((await host.run(id, true))?.problems).toEqual([]);
    expect(host.zfs.read('backup/ringdisk/vm1')).toBe(2);
  });

  it('follows a volume that is renamed, and goes on after a revert by force', async () => {
    const host = await Host.start();
    await host.create('vm1');
    await host.jobs.add({ ...add, volumes: ['vm1'] });
    await host.run(id);
    await host.manager.renameVolume('tank', 'vm1', 'web');
    await host.write('tank', 'web', 3);
    expect((await host.run(id))?.problems).toEqual([]);
    expect(host.zfs.read('backup/ringdisk/vm1')).toBe(3);
    const [first] = await host.snapshots('tank', 'web');
    await host.manager.revertVolume('tank', 'web', first?.key ?? '');
    expect((await host.run(id))?.problems.join()).toMatch(/--force/);
    expect((await host.run(id, true))?.problems).toEqual([]);
    expect(host.zfs.read('backup/ringdisk/vm1')).toBe(0);
  });

  it('destroys nothing that the destination may need while that cannot be asked', async () => {
    const host = await Host.start();
    await host.create('vm1');
    await host.jobs.add({ ...add, keep: 'last=2' });
    await host.run(id);
    const [common] = await host.snapshots('tank', 'vm1');
    const { run } = host.zfs;
    const isBackup = (args: readonly string[]) => args.some((word) => word.startsWith('backup'));
    Object.assign(host.zfs, {
      run: (program: string, args: readonly string[]) =>
        isBackup(args) ? Promise.reject(new Error('gone')) : run(program, args),
    });
    await host.restart();
    for (let turn = 0; turn < 4; turn++) {
      const last = await host.run(id);
      expect(last?.problems.join()).toMatch(/backup.*gone/);
      expect(last?.failures).toBe(turn + 1);
    }
    const left = await host.snapshots('tank', 'vm1');
    expect(left.map(({ key }) => key)).toContain(common?.key);
    expect(left).toHaveLength(3);
    Object.assign(host.zfs, { run });
    await host.restart();
    expect((await host.run(id))?.problems).toEqual([]);
    // One by one, as they were taken.
    expect(await host.snapshots('backup', 'vm1')).toHaveLength(4);
  });

  it('keeps snapshots of a volume that is gone for a week', async () => {
    const host = await Host.start();
    await host.create('vm1');
    await host.create('vm2');
    await host.jobs.add(add);
    await host.run(id);
    await host.manager.destroyVolume('tank', 'vm1');
    await host.run(id);
    const left = async () =>
      (await host.manager.listVolumes('tank')).filter(({ kind, dataset }) => {
        return kind === 'snapshot' && !dataset.startsWith('tank/ringdisk/vm2@');
      });
    expect(await left()).toHaveLength(1);
    host.later(8 * 24 * HOUR);
    await host.run(id);
    expect(await left()).toEqual([]);
    expect(host.zfs.names().filter((name) => /:old/.test(name))).toEqual([]);
    expect((await host.manager.statVolume('backup', 'vm1')).replicaOf).toBe(id);
  });
});

describe('jobs', () => {
  it('run when they are due, one run of each at a time', async () => {
    const host = await Host.start();
    await host.create('vm1');
    await host.jobs.add({ ...add, schedule: '30 * * * *' });
    await host.jobs.add({ ...add, name: 'often', to: undefined as never, schedule: 'every 15m' });
    const times = async () => {
      await host.jobs.tick();
      const last = [await host.ended(id), await host.ended('tank/often')];
      await host.restart();
      return last.map((run) => run && (run.began - host.clock) / 60_000);
    };
    expect(await times()).toEqual([undefined, 0]);
    host.later(14 * 60_000);
    expect(await times()).toEqual([undefined, -14]);
    host.later(16 * 60_000);
    expect(await times()).toEqual([0, 0]);
    // What was missed is done once.
    host.later(24 * HOUR);
    expect(await times()).toEqual([0, 0]);
    expect(await host.snapshots('tank', 'vm1')).toHaveLength(5);
  });

  it('are refused where they cannot work', async () => {
    const host = await Host.start();
    await host.create('vm1');
    const refused = (wish: object, why: RegExp) =>
      expect(host.jobs.add({ ...add, ...wish })).rejects.toThrow(why);
    await refused({ to: { pool: 'tank' } }, /to another pool, not to itself/);
    await refused({ to: { pool: 'nowhere' } }, /no pool nowhere/);
    await refused({ pool: 'nowhere' }, /no pool nowhere/);
    await refused({ volumes: ['vm9'] }, /no volume vm9/);
    await refused({ schedule: 'sometimes' }, /is no schedule/);
    await refused({ keep: 'much' }, /does not say what is kept/);
    await refused({ name: 'Nightly' }, /cannot be the name of a job/);
    await host.jobs.add(add);
    await refused({}, /there is a job tank\/nightly; --replace changes it/);
    const { info } = await host.jobs.add({ ...add, schedule: '@daily', replace: true });
    expect(info.job).toMatchObject({ schedule: '@daily', keep: { last: 3 } });
    expect((await host.jobs.list()).jobs).toHaveLength(1);
  });

  it('are kept in the pool, and gone when they are removed', async () => {
    const host = await Host.start();
    await host.create('vm1');
    await host.jobs.add(add);
    await host.run(id);
    await host.restart();
    const { jobs } = await host.jobs.list();
    expect(jobs).toMatchObject([{ job: { pool: 'tank', name: 'nightly' }, state: 'idle' }]);
    expect(jobs[0]?.last?.problems).toEqual([]);
    await host.manager.snapshotVolume('tank', 'vm1', { key: 'mine' });
    expect(await host.jobs.remove(id, true)).toEqual({ left: 0, destroyed: 1 });
    expect((await host.snapshots('tank', 'vm1')).map(({ key }) => key)).toEqual(['mine']);
    expect((await host.jobs.list()).jobs).toEqual([]);
    await expect(host.jobs.run(id, false)).rejects.toThrow(/there is no job tank\/nightly/);
  });

  it('that come with a pool from another host are not run before they are allowed', async () => {
    const host = await Host.start();
    await host.create('vm1');
    await host.jobs.add({ ...add, schedule: 'every 1h' });
    host.hostKey = new HostKey();
    await host.restart();
    await host.jobs.tick();
    const strange = await host.jobs.show(id);
    expect(strange).toMatchObject({ state: 'idle', isAllowed: false });
    expect(strange.next).toBeUndefined();
    await expect(host.jobs.run(id, false)).rejects.toThrow(/was added on another host.*job allow/);
    expect(await host.snapshots('tank', 'vm1')).toEqual([]);
    expect(await host.jobs.allow(id)).toMatchObject({ isAllowed: true });
    expect((await host.run(id))?.problems).toEqual([]);
    // Nor is one that somebody has changed in the pool.
    const kept = await host.zfs.run('zfs', [
      'get',
      '-Hp',
      '-o',
      'name,property,value,source',
      'all',
      'tank/ringdisk',
    ]);
    const [, value = ''] = /ringdisk:job:nightly\t([^\t]*)/.exec(kept) ?? [];
    const changed = value.replace('"pool":"backup"', '"pool":"backup","via":["reboot"]');
    expect(changed).not.toBe(value);
    await host.zfs.run('zfs', ['set', `ringdisk:job:nightly=${changed}`, 'tank/ringdisk']);
    await expect(host.jobs.run(id, false)).rejects.toThrow(/runs "reboot", was added on another/);
  });

  it('that cannot be read are told, and no list without them is taken for whole', async () => {
    const host = await Host.start();
    await host.zfs.run('zfs', ['set', 'ringdisk:job:odd={"keep":5}', 'tank/ringdisk']);
    const { jobs, unreadable } = await host.jobs.list();
    expect(jobs).toEqual([]);
    expect(unreadable).toMatchObject([{ pool: 'tank', reason: /ringdisk:job:odd .* no job/ }]);
  });

  it('stop when they are told to, and do not come again before they are due', async () => {
    const host = await Host.start();
    await host.create('vm1');
    host.zfs.payloadBytes = 50_000;
    await host.jobs.add({ ...add, schedule: 'every 1d', rate: 20_000 });
    await host.jobs.run(id, false);
    await new Promise((resolve) => setTimeout(resolve, 100));
    const { last, next } = await host.jobs.stop(id);
    expect(last?.problems.join()).toMatch(/it was stopped/);
    expect(next).toBe(host.clock + 24 * HOUR);
    expect(last?.bytes).toBeGreaterThan(0);
    await host.jobs.add({ ...add, replace: true });
    expect(await host.run(id)).toMatchObject({ problems: [], volumesDone: 1 });
  });
});
