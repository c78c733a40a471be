// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from 'vitest';
import { type XenbusStateName, xenbusStateNames } from '../../../src/blkif/xenbus_state.ts';
import { type Action, decide, type TableState, type Wish } from '../../../src/vbd/states.ts';

const ours: TableState[] = [
  'Initialising',
  'InitWait',
  'Connected',
  'Closing',
  'Closed',
  'Left',
  'Orphaned',
];

// The whole table, one letter per action, in the order of xenbus.h's states (Unknown first).
const letters: Record<string, Action> = {
  '.': 'wait',
  i: 'ignore',
  o: 'offer',
  c: 'connect',
  v: 'verify',
  b: 'begin-close',
  f: 'finish-close',
};

const expected: Record<Wish, Record<TableState, string>> = {
  serve: {
    Initialising: '.oooooooo',
    InitWait: 'f..ccbfii',
    Connected: 'foivvbfii',
    Closing: 'fo....fii',
    Closed: '.oo....ii',
    Left: 'fo.o.bfii',
    Orphaned: 'fo...bfii',
  },
  close: {
    Initialising: 'fffffffff',
    InitWait: 'fffbbbfbb',
    Connected: 'fffbbbfbb',
    Closing: 'ff....f..',
    Closed: '.........',
    Left: 'fffbbbfbb',
    Orphaned: 'fffbbbfbb',
  },
};

function row(state: TableState, wish: Wish): Action[] {
  return xenbusStateNames.map((frontend) => decide(state, frontend, wish));
}

describe('decide', () => {
  for (const wish of ['serve', 'close'] as const) {
    test.each(ours)(`${wish}: %s`, (state) => {
      expect(row(state, wish)).toEqual([...expected[wish][state]].map((letter) => letters[letter]));
    });
  }

  test('never connects or offers what is to be closed', () => {
    for (const state of ours) {
      expect(row(state, 'close')).not.toContain('connect');
      expect(row(state, 'close')).not.toContain('offer');
      expect(row(state, 'close')).not.toContain('verify');
    }
  });

  test('every close comes to an end once the frontend is closed or gone', () => {
    for (const frontend of ['Unknown', 'Closed'] satisfies XenbusStateName[]) {
      for (const state of ours.filter((one) => one !== 'Closed')) {
        expect(decide(state, frontend, 'close')).toBe('finish-close');
      }
    }
  });

  test('kexec: Closing, Closed and Initialising are each answered from any connected state', () => {
    for (const state of ['Connected', 'Left', 'Orphaned'] satisfies TableState[]) {
      expect(decide(state, 'Closing', 'serve')).toBe('begin-close');
      expect(decide('Closing', 'Closed', 'serve')).toBe('finish-close');
      expect(decide('Closed', 'Initialising', 'serve')).toBe('offer');
    }
  });

  test('what a dead daemon left connected is never closed while its frontend is connected', () => {
    expect(decide('Left', 'Connected', 'serve')).toBe('wait');
  });
});
