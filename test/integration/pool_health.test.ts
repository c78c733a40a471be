// SPDX-License-Identifier: Apache-2.0
// `ringdisk pool health` and `pool arc` as an operator uses them: the real manager and commands,
// and a model in ZFS's place. test/zfs has the real one.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { WireStatus } from '../../src/volume/manage_protocol.ts';
import { ModelHost, obstacle } from '../support/model_host.ts';

const why = obstacle();
const LIMIT_MS = 240_000;

describe.skipIf(why !== undefined)(`the health of a host's pools${why ? ` (${why})` : ''}`, () => {
  let host: ModelHost;

  beforeAll(async () => {
    host = new ModelHost('tank');
    await host.startManager();
  }, LIMIT_MS);
  afterAll(() => host.close());

  it(
    'is told by commands, and by the log once',
    async () => {
      const well = await host.run('pool', 'health');
      expect([well.status, well.stdout]).toEqual([
        0,
        'POOL  STATE   HEALTH\ntank  ONLINE  healthy\n',
      ]);
      host.zfs.poolState = 'DEGRADED';
      // Who asks is told what is no older than seconds.
      await new Promise((resolve) => setTimeout(resolve, 5100));
      const bad = await host.run('pool', 'health');
      expect(bad.status).toBe(1);
      expect(bad.stdout).toMatch(/tank +DEGRADED +unhealthy\n! tank is DEGRADED\./);
      const { status } = await host.json<{ status: WireStatus }>('pool', 'status', 'tank');
      expect(status.events?.map(({ id }) => id)).toEqual([
        '1/pool-state',
        '1/disk-state//dev/tank1',
      ]);
      expect(status.healthy).toBe(false);
      const { stdout } = await host.run('pool', 'status', 'tank');
      expect(stdout).toMatch(/! \/dev\/tank1 of tank is DEGRADED\./);
      host.zfs.poolState = 'SUSPENDED';
      await new Promise((resolve) => setTimeout(resolve, 5100));
      const down = await host.run('pool', 'health');
      expect(down.stdout).toMatch(/tank +SUSPENDED +unknown +tank does no I\/O/);
      expect(down.status).toBe(1);
      host.zfs.poolState = 'ONLINE';
    },
    LIMIT_MS,
  );

  it(
    'has a limit of the cache that is kept for the next start',
    async () => {
      const before = await host.run('pool', 'arc');
      expect(before.stdout).toMatch(
        /cache: +ZFS's module is not loaded\nkept: +nothing by ringdisk/,
      );
      const set = await host.run('pool', 'arc', '--set', '512');
      expect(set.stdout).toMatch(/kept: +512 MiB, in \/etc\/modprobe\.d\/zz-ringdisk-arc\.conf/);
      expect((await host.run('pool', 'arc', '--set', '16')).stderr).toMatch(/at least 64 MiB/);
      expect((await host.run('pool', 'arc', '--set', 'much')).status).toBe(2);
      const unset = await host.run('pool', 'arc', '--unset');
      expect(unset.stdout).toMatch(/kept: +nothing by ringdisk/);
    },
    LIMIT_MS,
  );

  it(
    'ends with the manager, which ends when it is told to',
    async () => {
      const ended = await host.killManager('SIGTERM');
      expect(ended?.status).toBe(0);
      const lines = (ended?.stderr ?? '').split('\n');
      const count = (pattern: RegExp) => lines.filter((line) => pattern.test(line)).length;
      expect(count(/"msg":"tank is DEGRADED/)).toBe(1);
      expect(count(/"msg":"tank does no I\/O/)).toBe(1);
    },
    LIMIT_MS,
  );
});
