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
