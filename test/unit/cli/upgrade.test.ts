// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { whyNot } from '../../../src/cli/upgrade.ts';

const daemon = { ringdisk: '0.1.0', journalVersion: 1, recordVersion: 1 };

describe('whyNot', () => {
  it('has nothing against a daemon that leaves what this version reads', () => {
    expect(whyNot(daemon, { journalVersions: [1], recordVersions: [1, 2] })).toBeUndefined();
  });

  it('says what differs', () => {
    const journals = whyNot(daemon, { journalVersions: [2], recordVersions: [1] });
    expect(journals).toMatch(/ringdisk 0.1.0.*journals of version 1, this one reads 2\. Nothing/);
    expect(journals).not.toContain('records');
    const both = whyNot(daemon, { journalVersions: [2], recordVersions: [3, 4] });
    expect(both).toMatch(/journals of version 1, .* records of version 1, this one reads 3 and 4/);
  });
});
