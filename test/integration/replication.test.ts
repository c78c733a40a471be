// SPDX-License-Identifier: Apache-2.0
// `ringdisk volume job` between two hosts, as an operator uses it: the real manager and commands,
// and a model in ZFS's place. test/zfs has the real one.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { WireJob } from '../../src/replication/wire.ts';
import type { WireVolume } from '../../src/volume/manage_protocol.ts';
import { ModelHost, obstacle } from '../support/model_host.ts';

const why = obstacle();
const JOB = 'tank/nightly';
/** Commands are many, and each is a process. */
const LIMIT_MS = 240_000;

describe.skipIf(why !== undefined)(`replication to another host${why ? ` (${why})` : ''}`, () => {
  let here: ModelHost;
  let there: ModelHost;

  beforeEach(async () => {
    here = new ModelHost('tank');
    there = new ModelHost('backup');
    await Promise.all([here.startManager(), there.startManager()]);
    await here.json('volume', 'create', 'tank/vm1', '1M', '--name', 'web server');
  }, LIMIT_MS);

  afterEach(async () => {
    await Promise.all([here.close(), there.close()]);
  });

  const add = (...more: string[]) => {
    const via = there.command.join(' ');
    const to = ['--to', 'backup', '--via', via, '--keep', 'last=2'];
    return here.json<{ job: WireJob }>('volume', 'job', 'add', JOB, ...to, ...more);
  };
  const runJob = () => here.run('volume', 'job', 'run', JOB, '--json');
  const list = async (host: ModelHost, pool: string) =>
    (await host.json<{ volumes: WireVolume[] }>('volume', 'list', pool)).volumes;

  it(
    'brings names and ids along, keeps what it is told to, and shows what it did',
    async () => {
      await add();
      for (let run = 1; run <= 3; run++) {
        here.zfs.write('tank/ringdisk/vm1', run);
        expect((await runJob()).status).toBe(0);
        expect(there.zfs.read('backup/ringdisk/vm1')).toBe(run);
      }
      const [source, ...snapshots] = await list(here, 'tank');
      const [replica, ...arrived] = await list(there, 'backup');
      const { uuid, key, name } = source as WireVolume;
      expect(replica).toMatchObject({ uuid, key, name, replicaOf: JOB });
      expect(name).toBe('web server');
      expect(snapshots).toHaveLength(2);
      expect(arrived.map((one) => one.uuid)).toEqual(snapshots.map((one) => one.uuid));
      expect(arrived[1]).toMatchObject({ snapshotOf: uuid, job: 'nightly' });
      const { stdout } = await here.run('volume', 'job', 'list');
      expect(stdout).toMatch(
        /tank\/nightly +backup \(remote\) +- +idle +\d{4}-\d\d-\d\d .* ok, \d[.\d]* KiB/,
      );
      const { job } = await here.json<{ job: WireJob }>('volume', 'job', 'show', JOB);
      expect(job.last).toMatchObject({ ok: true, volumes: 1, volumesDone: 1, destroyed: 2 });
    },
    LIMIT_MS,
  );

  it(
    'goes on after a break and a kill -9, and says what is wrong meanwhile',
    async () => {
      here.zfs.payloadBytes = 1_000_000;
      here.streams.cutAfter = 600_000;
      await add('--limit', '100M');
      const broken = await runJob();
      expect(broken.status).toBe(1);
      expect(broken.stdout).toMatch(/"ok":false,"problems":\["tank\/vm1: .*SIGKILL/);
      const cut = await there.run('volume', 'receiving', 'backup');
      expect(cut.stdout).toMatch(/backup\/vm1 +tank\/nightly +0 +by its token/);
      expect(await list(there, 'backup')).toEqual([]);
      await here.killManager('SIGKILL');
      await here.startManager();
      expect((await runJob()).status).toBe(0);
      expect(here.streams.sent.some((text) => text.startsWith('send -t'))).toBe(true);
      const [replica, first, second] = await list(there, 'backup');
      expect(replica?.name).toBe('web server');
      expect([first?.job, second?.job]).toEqual(['nightly', 'nightly']);
      await there.killManager('SIGKILL');
      const alone = await runJob();
      expect(alone.status).toBe(1);
      await there.startManager();
      const [, , third] = await list(there, 'backup');
      expect(third).toEqual(second);
    },
    LIMIT_MS,
  );

  it(
    'refuses what makes no sense with a sentence',
    async () => {
      const refused = async (...args: string[]) => {
        const { status, stderr } = await here.run('volume', 'job', ...args);
        return `${status}: ${stderr}`;
      };
      expect(await refused('add', 'nightly', '--to', 'backup')).toMatch(/1: .*POOL\/NAME/);
      expect(await refused('add', JOB, '--via', 'ssh other ringdisk')).toMatch(/2: .*wants --to/);
      expect(await refused('add', JOB, '--to', 'backup')).toMatch(/1: .*no pool backup here/);
      expect(await refused('add', JOB, '--schedule', 'now')).toMatch(/1: .*"now" is no schedule/);
      expect(await refused('add', JOB, '--volume', 'other/vm1')).toMatch(
        /2: .*no volume of the pool/,
      );
      expect(await refused('run', JOB)).toMatch(/1: .*no job tank\/nightly/);
      const far = ['--to', 'backup', '--via', 'false'];
      const { status, stderr } = await here.run('volume', 'job', 'add', JOB, ...far);
      expect(status).toBe(0);
      expect(stderr).toMatch(/backup cannot be asked now: false: it ended with 1/);
      expect(await refused('run', JOB)).toMatch(/^1/);
      const { stdout } = await here.run('volume', 'job', 'remove', JOB);
      expect(stdout).toMatch(/is removed; 1 snapshots that it has made stay/);
    },
    LIMIT_MS,
  );
});
