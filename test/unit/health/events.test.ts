// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { type Condition, conditionsOf, type Kind } from '../../../src/health/conditions.ts';
import { EventLog } from '../../../src/health/event_log.ts';
import { SlowDisks } from '../../../src/health/slow_disks.ts';
import type { PoolStatus, VdevStatus } from '../../../src/volume/manager_types.ts';

function disk(name: string, more: Partial<VdevStatus> = {}): VdevStatus {
  const errors = { readErrors: 0, writeErrors: 0, checksumErrors: 0 };
  return { name, kind: 'disk', state: 'ONLINE', ...errors, children: [], ...more };
}

function pool(more: Partial<PoolStatus> = {}): PoolStatus {
  return {
    ...{ pool: 'tank', guid: '7', state: 'ONLINE', healthy: true, readOnly: false },
    ...{ freeBytes: 60, usedBytes: 40, totalBytes: 100, reservedBytes: 0 },
    ...{ fragmentation: 0, capacity: 40, errors: 'No known data errors', warnings: [] },
    vdevs: { data: [disk('/dev/sda1')], log: [], cache: [], special: [], spare: [] },
    ...more,
  };
}

const vdevs = (...data: VdevStatus[]) => ({ ...pool().vdevs, data });
const conditions = (more: Partial<PoolStatus>, on: Kind[] = [], slow: string[] = []) =>
  conditionsOf({
    status: pool(more),
    smartOf: () => [],
    slow: new Set(slow),
    isOn: (kind) => on.includes(kind),
  });
const told = (...args: Parameters<typeof conditions>) =>
  conditions(...args).map(({ kind, subject = '', severity }) => `${severity} ${kind} ${subject}`);

describe('what somebody has to know of a pool', () => {
  it('is nothing, where all is well', () => {
    expect(told({})).toEqual([]);
    expect(told({ scan: 'scrub repaired 0B in 00:00:01 with 0 errors on Sun' })).toEqual([]);
  });

  it('is what has failed, down to the disk', () => {
    const mirror = disk('mirror-0', {
      kind: 'mirror',
      state: 'DEGRADED',
      children: [disk('/dev/sda1', { checksumErrors: 2 }), disk('/dev/sdb1', { state: 'FAULTED' })],
    });
    const degraded = { state: 'DEGRADED' as const, status: 'A device has failed.' };
    expect(told({ ...degraded, vdevs: vdevs(mirror) })).toEqual([
      'warning pool-state ',
      'warning disk-errors /dev/sda1',
      'warning disk-state /dev/sdb1',
    ]);
    expect(conditions(degraded)[0]?.message).toBe('tank is DEGRADED. A device has failed.');
    expect(told({ state: 'SUSPENDED' })).toEqual(['critical pool-state ']);
    expect(told({ errors: '3 data errors, use "-v" for a list' })).toEqual([
      'critical data-errors ',
    ]);
    expect(told({}, [], ['/dev/sda1', '/dev/other'])).toEqual(['warning disk-slow /dev/sda1']);
  });

  it('is a scan while it runs, without how far it is', () => {
    const scan = 'resilver in progress since Sun 1.20G / 2.41G scanned, 42.50% done';
    expect(conditions({ scan })).toEqual([
      { kind: 'resilver', severity: 'info', message: 'tank is being resilvered.' },
    ]);
  });

  it('is a pool that gets full, and does not come and go at the limit', () => {
    expect(told({ capacity: 80 })).toEqual(['warning capacity ']);
    expect(told({ capacity: 79 })).toEqual([]);
    expect(told({ capacity: 79 }, ['capacity'])).toEqual(['warning capacity ']);
    expect(told({ capacity: 90 })).toEqual(['critical capacity ']);
    expect(told({ fragmentation: 50 })).toEqual(['warning fragmentation ']);
    // What is reserved is not theirs.
    const space = { totalBytes: 100, reservedBytes: 20, usedBytes: 73 };
    expect(told({ ...space, freeBytes: 7 })).toEqual(['warning space ']);
    expect(told({ ...space, freeBytes: 1 })).toEqual(['critical space ']);
    const none = { totalBytes: 0, reservedBytes: 0, usedBytes: 0, freeBytes: 0 };
    expect(told({ ...none, state: 'UNAVAIL' })).toEqual(['critical pool-state ']);
  });
});

const KEY = { pool: 'tank', guid: '7' };
const condition = (more: Partial<Condition> = {}): Condition => ({
  kind: 'disk-errors',
  subject: '/dev/sda1',
  severity: 'warning',
  message: 'one',
  ...more,
});

describe('events', () => {
  const changes = (log: EventLog, list: Condition[], now: number) =>
    log.take(KEY, list, now).map(({ what, event }) => `${what} ${event.message}`);

  it('are said once, and have an id as long as they last', () => {
    const log = new EventLog();
    expect(changes(log, [condition()], 1)).toEqual(['began one']);
    expect(changes(log, [condition()], 2)).toEqual([]);
    expect(log.events).toMatchObject([{ id: '7/disk-errors//dev/sda1', since: 1, changed: 1 }]);
    expect(changes(log, [], 3)).toEqual(['ended one']);
    expect(log.events).toEqual([]);
    expect(log.changes.map(({ number, what }) => `${number} ${what}`)).toEqual([
      '1 began',
      '2 ended',
    ]);
  });

  it('that change all the time are said now and then, at once where it gets worse', () => {
    const log = new EventLog();
    changes(log, [condition()], 0);
    expect(changes(log, [condition({ message: 'two' })], 30)).toEqual([]);
    expect(log.events[0]?.message).toBe('two');
    const worse = condition({ message: 'three', severity: 'critical' });
    expect(changes(log, [worse], 60)).toEqual(['changed three']);
    expect(changes(log, [condition({ message: 'four' })], 400)).toEqual(['changed four']);
  });

  it('of one pool say nothing of another, and go with a pool that is renamed', () => {
    const log = new EventLog();
    changes(log, [condition()], 0);
    log.take({ pool: 'other', guid: '8' }, [condition()], 0);
    expect(log.take({ pool: 'new', guid: '7' }, [condition()], 1)).toEqual([]);
    expect(log.forget({ pool: 'new', guid: '7' }, 2).map(({ what }) => what)).toEqual(['ended']);
    expect(log.events.map((event) => event.pool)).toEqual(['other']);
  });

  it('come worst first, and are bounded', () => {
    const log = new EventLog();
    changes(log, [condition({ kind: 'scrub', severity: 'info' }), condition()], 0);
    changes(log, [condition({ kind: 'scrub', severity: 'info' }), condition()], 1);
    expect(log.events.map(({ severity }) => severity)).toEqual(['warning', 'info']);
    for (let turn = 0; turn < 500; turn++) changes(log, turn % 2 ? [] : [condition()], turn);
    expect(log.changes.length).toBe(200);
  });
});

describe('slow disks', () => {
  const now = new Date('2026-11-30T10:00:00').getTime();
  const short = 'Nov 30 2026 09:55:00.123456789\tereport.fs.zfs.delay\n';
  const full = `${short}        version = 0x0
        class = "ereport.fs.zfs.delay"
        pool = "tank"
        vdev_path = "/dev/sda1"
        time = 0x692c1234 0x1

Nov  3 2026 09:55:00.123456789\tereport.fs.zfs.delay
        pool = "tank"
        vdev_path = "/dev/old1"
`;

  it('are told of for a while, and the full text is read only for new ones', async () => {
    const slow = new SlowDisks();
    const asked: boolean[] = [];
    const read = async (verbose: boolean) => {
      asked.push(verbose);
      return verbose ? full : short;
    };
    await slow.look(read, now);
    await slow.look(read, now + 60_000);
    expect(asked).toEqual([false, true, false]);
    expect([...slow.of('tank')]).toEqual(['/dev/sda1']);
    expect([...slow.of('other')]).toEqual([]);
    await slow.look(read, now + 16 * 60_000);
    expect([...slow.of('tank')]).toEqual([]);
    await slow.look(async () => undefined, now);
  });
});
