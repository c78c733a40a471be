// SPDX-License-Identifier: Apache-2.0
// The health of pools that answer, hang, are suspended, or of which there is no module.
import { describe, expect, it } from 'vitest';
import { Health } from '../../../src/health/health.ts';
import type { Smart } from '../../../src/health/smart.ts';
import type { DiskSmart } from '../../../src/health/smart_report.ts';
import { createLogger } from '../../../src/log.ts';
import type { RunCommand } from '../../../src/zfs/command.ts';
import { ZfsError, type ZfsErrorKind } from '../../../src/zfs/zfs_error.ts';

const log = createLogger({ level: 'silent' });

interface Model {
  state: string;
  capacity: number;
  hangs?: boolean;
}

/** Pools as `zpool` and `zfs` tell of them. */
class Host {
  readonly pools = new Map<string, Model>([
    ['tank', { state: 'ONLINE', capacity: 10 }],
    ['backup', { state: 'ONLINE', capacity: 10 }],
  ]);
  module = true;
  clock = 1_000_000;
  readonly calls: string[] = [];
  readonly smart: Record<string, DiskSmart> = {};
  readonly health: Health;

  constructor() {
    const smart: Pick<Smart, 'of' | 'knows' | 'look'> = {
      of: (device) => (this.smart[device] ? [this.smart[device]] : []),
      knows: () => true,
      look: async () => {},
    };
    this.health = new Health({
      run: this.run,
      log,
      states: async () =>
        this.module
          ? new Map([...this.pools].map(([name, { state }]) => [name, state]))
          : undefined,
      smart: smart as Smart,
      now: () => this.clock,
    });
  }

  readonly run: RunCommand = async (program, args) => {
    this.calls.push([program, ...args].join(' '));
    const fail = (kind: ZfsErrorKind, words: string): never => {
      throw new ZfsError(kind, program, args, words);
    };
    if (!this.module) fail('missing', 'The ZFS modules are not loaded.');
    const asked = [...this.pools].filter(([name]) =>
      args.some((word) => word === name || word.startsWith(`${name}/`)),
    );
    const concerned = program === 'zpool' && args[0] === 'list' && asked.length === 0;
    const all = concerned ? [...this.pools] : asked;
    if (all.some(([, { hangs }]) => hangs)) fail('timeout', 'no end within 20 s');
    if (program === 'zfs') {
      const name = args.at(-1) ?? '';
      if (name.includes('/')) return fail('unknown', 'dataset does not exist');
      return `${name}\tused\t40\t-\n${name}\tavailable\t60\t-\n`;
    }
    if (args[0] === 'events') return '';
    if (args[0] === 'list') {
      return all
        .map(
          ([name, { state, capacity }]) =>
            `${name}\t1${name.length}\t${state}\t9\t0\t${capacity}\toff\n`,
        )
        .join('');
    }
    const [[name, { state }] = ['', { state: '' }]] = all;
    return (
      `  pool: ${name}\n state: ${state}\nconfig:\n\n\tNAME STATE READ WRITE CKSUM\n` +
      `\t${name} ${state} 0 0 0\n\t  /dev/${name}1 ONLINE 0 0 0\n\nerrors: No known data errors\n`
    );
  };

  async verdicts(): Promise<Record<string, string>> {
    this.clock += 60_000;
    const { pools } = await this.health.report();
    return Object.fromEntries(pools.map(({ pool, verdict }) => [pool, verdict]));
  }

  async kinds(): Promise<string[]> {
    const { events } = await this.health.report();
    return events.map(({ pool, kind }) => `${pool} ${kind}`);
  }
}

describe('the health of pools', () => {
  it('is what each says, with what is wrong', async () => {
    const host = new Host();
    expect(await host.verdicts()).toEqual({ tank: 'healthy', backup: 'healthy' });
    expect(await host.kinds()).toEqual([]);
    host.pools.set('tank', { state: 'DEGRADED', capacity: 85 });
    expect(await host.verdicts()).toEqual({ tank: 'unhealthy', backup: 'healthy' });
    expect(await host.kinds()).toEqual(['tank pool-state', 'tank capacity']);
    const { events } = await host.health.of('backup');
    expect(events).toEqual([]);
    host.smart['/dev/backup1'] = { device: '/dev/sdb', passed: false };
    expect(await host.verdicts()).toEqual({ tank: 'unhealthy', backup: 'unhealthy' });
    const { health } = await host.health.of('backup');
    expect(health?.smart).toEqual([{ disk: '/dev/backup1', device: '/dev/sdb', passed: false }]);
  });

  it('is unknown of one that hangs, and all others are told all the same', async () => {
    const host = new Host();
    await host.verdicts();
    const tank = { state: 'DEGRADED', capacity: 10 };
    host.pools.set('tank', tank);
    await host.verdicts();
    host.pools.set('tank', { ...tank, hangs: true });
    expect(await host.verdicts()).toEqual({ tank: 'unknown', backup: 'healthy' });
    const report = await host.health.report();
    expect(report.incomplete).toMatch(/no end within 20 s/);
    const [health] = report.pools;
    expect(health).toMatchObject({ pool: 'tank', state: 'DEGRADED', reason: /no end within/ });
    expect(health?.known).toBe(host.clock - 60_000);
    // It was degraded, and nobody has said that it is not any more.
    expect(await host.kinds()).toEqual(['tank pool-unknown', 'tank pool-state']);
    host.pools.set('tank', tank);
    expect(await host.verdicts()).toEqual({ tank: 'unhealthy', backup: 'healthy' });
    expect(await host.kinds()).toEqual(['tank pool-state']);
    expect((await host.health.report()).incomplete).toBeUndefined();
  });

  it('is unknown of one that is suspended', async () => {
    const host = new Host();
    host.pools.set('tank', { state: 'SUSPENDED', capacity: 10 });
    expect(await host.verdicts()).toEqual({ tank: 'unknown', backup: 'healthy' });
    const { events } = await host.health.of('tank');
    expect(events).toMatchObject([{ kind: 'pool-state', severity: 'critical' }]);
    expect(host.calls.some((call) => /zpool status.* tank/.test(call))).toBe(false);
  });

  it('is not told as an empty list where ZFS is missing', async () => {
    const host = new Host();
    host.module = false;
    expect(await host.verdicts()).toEqual({});
    expect((await host.health.report()).incomplete).toMatch(/modules are not loaded/);
    host.module = true;
    await host.verdicts();
    host.module = false;
    expect(await host.verdicts()).toEqual({ tank: 'unknown', backup: 'unknown' });
    host.module = true;
    host.pools.delete('tank');
    expect(await host.verdicts()).toEqual({ backup: 'healthy' });
    expect(await host.kinds()).toEqual([]);
  });

  it('is looked at once for all that ask at the same time', async () => {
    const host = new Host();
    await Promise.all([host.health.report(), host.health.report(), host.health.report()]);
    expect(host.calls.filter((call) => /^zpool list/.test(call))).toHaveLength(1);
    await host.health.report();
    expect(host.calls.filter((call) => /^zpool list/.test(call))).toHaveLength(1);
  });
});
