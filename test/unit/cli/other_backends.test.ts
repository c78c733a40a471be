// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { findOtherBackends, pidsOf, refuseTakenKinds } from '../../../src/cli/other_backends.ts';

const NONE = { blkbackLoaded: false, tapbackPids: [] };

describe('kinds that others serve', () => {
  it.each([
    [['vbd'], { ...NONE, blkbackLoaded: true }, /kind vbd .*xen-blkback is loaded.*--force/],
    [
      ['qdisk', 'vbd3'],
      { ...NONE, tapbackPids: [7, 9] },
      /kind vbd3 .*tapback runs \(process 7, 9/,
    ],
  ])('%j are refused with a sentence', (kinds, others, message) => {
    expect(() => refuseTakenKinds(kinds, others)).toThrow(message);
  });

  it.each([
    [['vbd3'], { ...NONE, blkbackLoaded: true }],
    [['vbd'], { ...NONE, tapbackPids: [7] }],
    [['vbd', 'vbd3', 'qdisk'], NONE],
  ])('%j are served beside %j', (kinds, others) => {
    expect(() => refuseTakenKinds(kinds, others)).not.toThrow();
  });

  it('are found by looking at this very machine', () => {
    const own = readFileSync('/proc/self/comm', 'utf8').trim();
    expect(pidsOf(own)).toContain(process.pid);
    expect(findOtherBackends().tapbackPids).toEqual(pidsOf('tapback'));
  });
});
