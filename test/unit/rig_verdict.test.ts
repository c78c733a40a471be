// SPDX-License-Identifier: Apache-2.0
// What the rig does not hold against a guest's kernel: whole reports of the emulation's faults.
import { describe, expect, it } from 'vitest';
// @ts-expect-error The rig is JavaScript, which dom0 runs as it is.
import { withoutStraySteps } from '../rig/dom0/verdict.mjs';

const BREAKPOINT = ['Oops: int3: 0000 [#1] PREEMPT', 'Call Trace:', 'Kernel Offset: disabled'];
const STEP = [
  '---[ cut here ]---',
  'RIP: exc_debug_kernel+0x1',
  'Call Trace:',
  '---[ end trace 0 ]---',
];

describe('withoutStraySteps', () => {
  it.each([
    ['a single step', STEP],
    ['a breakpoint that is gone', BREAKPOINT],
  ])('leaves out the whole report of %s', (_, report) => {
    expect(withoutStraySteps(['before', ...report, 'after'])).toEqual(['before', 'after']);
  });

  it.each([
    ['a single step', STEP],
    ['a breakpoint', BREAKPOINT],
  ])('keeps a report of %s that was cut off', (_, report) => {
    const cut = ['before', ...report.slice(0, -1)];
    expect(withoutStraySteps(cut)).toEqual(cut);
  });

  it('keeps other reports', () => {
    const other = ['---[ cut here ]---', 'RIP: blkif_int+0x1', '---[ end trace 0 ]---'];
    expect(withoutStraySteps(other)).toEqual(other);
  });
});
