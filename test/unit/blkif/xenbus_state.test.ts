// SPDX-License-Identifier: Apache-2.0
import { expect, test } from 'vitest';
import {
  formatXenbusState,
  parseXenbusState,
  xenbusStateNames,
} from '../../../src/blkif/xenbus_state.ts';

test('numbers are those of xenbus.h', () => {
  expect(xenbusStateNames.map((name) => [name, formatXenbusState(name)])).toEqual([
    ['Unknown', '0'],
    ['Initialising', '1'],
    ['InitWait', '2'],
    ['Initialised', '3'],
    ['Connected', '4'],
    ['Closing', '5'],
    ['Closed', '6'],
    ['Reconfiguring', '7'],
    ['Reconfigured', '8'],
  ]);
  for (const name of xenbusStateNames) expect(parseXenbusState(formatXenbusState(name))).toBe(name);
});

test.each(['', '9', '-1', '04', '4 ', ' 4', '4\n', '4.0', 'Connected', '٤', '44'])(
  '%j is no state',
  (text) => {
    expect(parseXenbusState(text)).toBeUndefined();
  },
);
