// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import type { HostFacts } from '../../../src/cli/host_facts.ts';
import { judgeHost } from '../../../src/cli/host_verdicts.ts';
import { isRestricted, readXenFacts } from '../../../src/cli/xen_facts.ts';

const HEALTHY: HostFacts = {
  kernel: '6.12.57-amd64',
  uring: {
    available: true,
    singleIssuer: true,
    deferTaskrun: true,
    coopTaskrun: true,
    bigEntries: true,
    uringCommand: true,
  },
  uringDisabled: 0,
  devices: { gntdev: undefined, evtchn: undefined, xenbus: undefined, privcmd: undefined },
  memlockBytes: Number.POSITIVE_INFINITY,
  nofile: 65536,
  privileges: { capabilities: {}, noNewPrivileges: true },
  maxMapCount: 1_048_576,
  blkbackLoaded: false,
  tapbackPids: [],
  daemonVersion: '0.1.0',
  xenVersion: '4.20',
  scripts: { 'block-tap': 'same', 'block-ringdisk': 'missing' },
  unit: 'same',
  qemuPids: [],
  runtimeSpace: { isTmpfs: true, freeBytes: 2 ** 30 },
  lvmIsRestricted: true,
  driverDomain: { domid: 3, disks: 2 },
};

function verdict(facts: Partial<HostFacts>, check: string, platform: 'xen' | 'loopback' = 'xen') {
  const found = judgeHost({ ...HEALTHY, ...facts }, platform).filter((one) => one.check === check);
  expect(found).toHaveLength(1);
  return found[0];
}

describe('judgeHost', () => {
  it('finds nothing wrong with a good host', () => {
    expect(judgeHost(HEALTHY, 'xen').filter((one) => one.status !== 'ok')).toEqual([]);
  });

  it('says what breaks and what to do for all that is not ok', () => {
    const bad: HostFacts = {
      ...HEALTHY,
      kernel: '5.10.0',
      addonError: 'no build',
      uring: { ...(HEALTHY.uring as NonNullable<HostFacts['uring']>), uringCommand: false },
      devices: { gntdev: 'ENOENT', evtchn: 'EACCES', xenbus: 'ENOENT', privcmd: 'ENOENT' },
      xenstoreError: 'no xenstored',
      memlockBytes: 65536,
      nofile: 1024,
      privileges: { capabilities: { Eff: '1' }, noNewPrivileges: false },
      maxMapCount: 65530,
      blkbackLoaded: true,
      tapbackPids: [12],
      runtimeDirError: '/run: EACCES',
      xenVersion: '4.17',
      scripts: { 'block-tap': 'foreign', 'block-ringdisk': 'same' },
      unit: 'missing',
      runtimeSpace: { isTmpfs: false, freeBytes: 2 ** 30 },
      lvmIsRestricted: false,
      driverDomain: { domid: 3, disks: 40 },
    };
    const wrong = judgeHost(bad, 'xen').filter((one) => one.status !== 'ok');
    expect(wrong.length).toBeGreaterThan(10);
    for (const one of wrong) {
      expect(one.breaks, one.check).toMatch(/\w/);
      expect(one.remedy, one.check).toMatch(/\w/);
    }
  });

  it('fails without grants on Xen, and does not ask for them on loopback', () => {
    const devices = { ...HEALTHY.devices, gntdev: 'ENOENT' };
    expect(verdict({ devices }, '/dev/xen/gntdev')).toMatchObject({
      status: 'fail',
      remedy: expect.stringContaining('modprobe xen-gntdev'),
    });
    const checks = judgeHost({ ...HEALTHY, devices }, 'loopback').map((one) => one.check);
    expect(checks.some((check) => check.includes('xen'))).toBe(false);
  });

  it('fails without a worker, and says nothing of it where the addon does not load', () => {
    const workerError = '/opt/ringdisk-worker: EACCES';
    expect(verdict({ workerError }, 'worker', 'loopback')).toMatchObject({ status: 'fail' });
    const facts = { ...HEALTHY, addonError: 'no build' };
    expect(judgeHost(facts, 'xen').some(({ check }) => check === 'worker')).toBe(false);
  });

  it('tells a switched-off io_uring from a missing one', () => {
    const none = { available: false, error: 'EPERM' } as HostFacts['uring'];
    const uring = none as NonNullable<HostFacts['uring']>;
    expect(verdict({ uring, uringDisabled: 2 }, 'io_uring')?.remedy).toContain('sysctl');
    expect(verdict({ uring, uringDisabled: 0 }, 'io_uring')).toMatchObject({
      status: 'fail',
      found: 'EPERM',
    });
  });

  it('only warns of competing backends', () => {
    expect(verdict({ blkbackLoaded: true }, 'xen-blkback')?.status).toBe('warn');
    expect(verdict({ tapbackPids: [7, 9] }, 'tapback')?.found).toContain('7, 9');
  });
});

describe('Xen and toolstacks', () => {
  it.each([
    ['4.19', 'ok'],
    ['5.0', 'ok'],
    ['4.18', 'warn'],
    [undefined, 'fail'],
  ])('version %s: %s', (xenVersion, status) => {
    const { xenVersion: _, ...others } = HEALTHY;
    const facts = xenVersion === undefined ? others : { ...others, xenVersion };
    const [found] = judgeHost(facts, 'xen').filter(({ check }) => check === 'Xen');
    expect(found?.status).toBe(status);
  });

  it.each([
    ['same', 'foreign', 'ok', undefined],
    ['foreign', 'same', 'warn', /need script=block-ringdisk/],
    ['missing', 'missing', 'warn', /attaches no disk/],
    ['not executable', 'missing', 'warn', /attaches no disk/],
    ['other version', 'missing', 'warn', /another version/],
  ] as const)('block-tap %s, block-ringdisk %s: %s', (blockTap, blockRingdisk, status, breaks) => {
    const scripts = { 'block-tap': blockTap, 'block-ringdisk': blockRingdisk };
    const found = verdict({ scripts }, 'hotplug script');
    expect(found?.status).toBe(status);
    if (breaks) expect(found?.breaks).toMatch(breaks);
  });

  it('counts the disks that fit onto a small /run', () => {
    const runtimeSpace = { isTmpfs: true, freeBytes: 20 * 2 ** 20 };
    expect(verdict({ runtimeSpace }, 'room for journals')?.breaks).toMatch(/about 10 more disks/);
  });

  it.each([
    ['# global_filter = [ "r|.*|" ]\n', false],
    ['devices {\n\tglobal_filter = [ "r|/dev/zd.*|" ]\n}', true],
    ['\tauto_activation_volume_list = [ "host" ]', true],
    ['event_activation = 1', false],
    ['event_activation = 0', true],
  ])('reads lvm.conf: %j', (config, restricted) => {
    expect(isRestricted(config)).toBe(restricted);
  });

  it('finds out about this very machine', () => {
    const facts = readXenFacts('/proc/self/none');
    expect(facts.runtimeSpace.isTmpfs).toBe(false);
    expect(Object.keys(facts.scripts)).toEqual(['block-tap', 'block-ringdisk']);
  });
});

describe('where XAPI is', () => {
  const host = {
    ...{ missing: [], isOurs: true, socket: '/run/ringdisk-manage/smapi.sock', python: '3.6' },
    hasProxyFolder: true,
  };
  const xapi = { host, managerListens: true };

  it('nothing is wrong when its plugins, the manager and the daemon are there', () => {
    const facts = { ...HEALTHY, xapi, daemonBackends: ['qdisk'] };
    expect(judgeHost(facts, 'xen').filter(({ status }) => status !== 'ok')).toEqual([]);
    expect(judgeHost(HEALTHY, 'xen').map(({ check }) => check)).not.toContain('XAPI plugins');
  });

  it('says what it would see of what is missing', () => {
    const missing = ['there is no /usr/libexec/xapi-storage-script/datapath/ringdisk'];
    const without = { ...xapi, host: { ...host, missing } };
    expect(verdict({ xapi: without }, 'XAPI plugins')).toMatchObject({
      status: 'warn',
      found: missing[0],
    });
    const silent = verdict({ xapi: { ...xapi, managerListens: false } }, 'volume manager');
    expect(silent).toMatchObject({
      status: 'fail',
      breaks: expect.stringContaining('half a minute'),
    });
    const kind = verdict({ xapi, daemonBackends: ['vbd3'] }, 'kind qdisk');
    expect(kind).toMatchObject({ status: 'fail', found: 'the daemon serves vbd3' });
  });

  it('says which process is of another version', () => {
    const other = { xapi: { ...xapi, managerVersion: '0.0.9' } };
    expect(verdict(other, 'volume manager, version')).toMatchObject({
      status: 'warn',
      found: expect.stringMatching(/^0\.0\.9 runs, and this is /),
    });
    const old = { xapi, daemonVersion: '0.0.8' };
    expect(verdict(old, 'daemon, version')).toMatchObject({ remedy: 'run ringdisk upgrade' });
  });
});
