// SPDX-License-Identifier: Apache-2.0
// Which of the rig's tests a run takes: the rig's own tests run where nobody could tell.
import { describe, expect, it } from 'vitest';
// @ts-expect-error The rig is JavaScript, which dom0 runs as it is.
import { choose, detailsOf, NOTHING_LEFT } from '../rig/dom0/catalogue.mjs';

const nothing = async () => {};
const quick = {
  name: 'disks',
  tests: { attached: nothing, migrated: { full: true, run: nothing } },
};
const full = { name: 'libvirt', full: true, tests: { started: nothing } };

describe('the rig takes', () => {
  it('the quick tier unless asked for more', () => {
    expect(choose([quick, full])).toEqual({ disks: ['attached', NOTHING_LEFT] });
  });

  it('everything with --full', () => {
    expect(choose([quick, full], { full: true })).toEqual({
      disks: ['attached', 'migrated', NOTHING_LEFT],
      libvirt: ['started', NOTHING_LEFT],
    });
  });

  it('what is named, of whichever tier', () => {
    expect(choose([quick, full], { only: 'MIGRATED|libvirt' })).toEqual({
      disks: ['migrated', NOTHING_LEFT],
      libvirt: ['started', NOTHING_LEFT],
    });
    expect(choose([quick, full], { only: 'nobody' })).toEqual({});
  });
});

it('a test of the full tier runs its body', () => {
  expect(detailsOf(quick, 'migrated').run).toBe(nothing);
  expect(detailsOf(quick, 'attached').run).toBe(nothing);
});
