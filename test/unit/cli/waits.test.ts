// SPDX-License-Identifier: Apache-2.0
import { expect, test } from 'vitest';
import { waitLines, waitNames } from '../../../src/cli/waits.ts';

test('what requests wait for is named and told, both at once where need be', () => {
  const fencedSince = '2026-01-01T00:00:00.000Z';
  const failing = { since: '2026-01-01T00:00:01.000Z', error: 'ENOSPC' };
  expect(waitNames({})).toEqual([]);
  expect(waitNames({ fencedSince, failing })).toEqual(['fenced', 'failing']);
  expect(waitLines([{ name: 'a' }, { name: 'b', fencedSince, failing }])).toEqual([
    'b: fenced since 2026-01-01T00:00:00.000Z: writes wait for the I/O of the daemon that died',
    'b: failing with ENOSPC since 2026-01-01T00:00:01.000Z: requests wait and are tried again',
  ]);
});

test('what hangs is told with the reason, where there is one', () => {
  const since = '2026-01-01T00:00:00.000Z';
  const why = 'the NBD server at /run/s came back with other sizes of blocks';
  const waits = [
    { call: 'write', since, count: 2 },
    { call: 'NBD connection', since, count: 1, why },
  ];
  expect(waitNames({ waits })).toEqual(['hangs in write', 'hangs in NBD connection']);
  expect(waitLines([{ name: 'a', waits }])).toEqual([
    `a: hangs 2 times in write, the first since ${since}: its storage does not answer`,
    `a: hangs in NBD connection since ${since}: ${why}`,
  ]);
});
