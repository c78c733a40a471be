// SPDX-License-Identifier: Apache-2.0
// What ZFS prints, as it was seen, but for shortened paths.
import { describe, expect, it } from 'vitest';
import { parseImportable } from '../../../src/zfs/importable.ts';
import { parseStatus } from '../../../src/zfs/pool_status.ts';

const DEGRADED = `  pool: tank
 state: DEGRADED
status: One or more devices has been taken offline by the administrator.
	Sufficient replicas exist for the pool to continue functioning in a
	degraded state.
action: Online the device using 'zpool online' or replace the device with
	'zpool replace'.
  scan: resilver in progress since Sun Nov 29 20:42:10 2026
	1.20G / 2.41G scanned at 410M/s, 512M / 1.2G issued at 170M/s
	512M resilvered, 42.50% done, 00:00:04 to go
config:

	NAME                                   STATE     READ WRITE CKSUM
	tank                                   DEGRADED     0     0     0
	  mirror-0                             DEGRADED     0     0     0
	    /dev/disk/by-id/virtio-disk0-part1  ONLINE       0     0     0
	    replacing-1                        DEGRADED     0     0     0
	      /dev/sdb1                        OFFLINE      0     3     0
	      /dev/sdc1                        ONLINE       0     0     2  (resilvering)
	special	
	  mirror-2                             ONLINE       0     0     0
	    /dev/sde1                          ONLINE       0     0     0
	logs	
	  /dev/sdd1                            ONLINE       0     0     0
	cache
	  /dev/sdf1                            ONLINE       0     0     0
	spares
	  /dev/sdg1                            AVAIL   

errors: No known data errors
`;

describe('zpool status', () => {
  const report = parseStatus(DEGRADED);

  it('has sentences that go over lines', () => {
    expect(report.pool).toBe('tank');
    expect(report.state).toBe('DEGRADED');
    expect(report.status).toMatch(/administrator\. Sufficient replicas .* degraded state\.$/);
    expect(report.action).toMatch(/'zpool replace'\.$/);
    expect(report.scanProgress).toBe(0.425);
    expect(report.errors).toBe('No known data errors');
  });

  it('has a tree of devices, by role', () => {
    const [mirror] = report.vdevs.data;
    expect(report.vdevs.data).toHaveLength(1);
    expect(mirror?.kind).toBe('mirror');
    expect(mirror?.children.map(({ kind, state }) => [kind, state])).toEqual([
      ['disk', 'ONLINE'],
      ['replacing', 'DEGRADED'],
    ]);
    expect(mirror?.children[1]?.children).toMatchObject([
      { name: '/dev/sdb1', writeErrors: 3 },
      { name: '/dev/sdc1', checksumErrors: 2, note: '(resilvering)' },
    ]);
    expect(report.vdevs.special[0]?.children).toHaveLength(1);
    expect(report.vdevs.log.map(({ name }) => name)).toEqual(['/dev/sdd1']);
    expect(report.vdevs.cache.map(({ name }) => name)).toEqual(['/dev/sdf1']);
    expect(report.vdevs.spare.map(({ state }) => state)).toEqual(['AVAIL']);
  });

  it('that says nothing is no status', () => {
    expect(() => parseStatus('no pools available\n')).toThrow(/nothing of a pool/);
  });
});

describe('zpool import', () => {
  it('lists pools with what is wrong', () => {
    const text = `   pool: tank
     id: 6223921996155991199
  state: UNAVAIL
status: One or more devices are missing from the system.
 action: The pool cannot be imported. Attach the missing
	devices and try again.
 config:

	tank         UNAVAIL  insufficient replicas
	  /dev/sdb1  UNAVAIL

   pool: other
     id: 77
  state: ONLINE
 action: The pool can be imported using its name or numeric identifier.
 config:

	other        ONLINE
`;
    expect(parseImportable(text)).toEqual([
      {
        pool: 'tank',
        guid: '6223921996155991199',
        state: 'UNAVAIL',
        status: 'One or more devices are missing from the system.',
        action: 'The pool cannot be imported. Attach the missing devices and try again.',
      },
      {
        pool: 'other',
        guid: '77',
        state: 'ONLINE',
        action: 'The pool can be imported using its name or numeric identifier.',
      },
    ]);
    expect(parseImportable('')).toEqual([]);
  });
});
