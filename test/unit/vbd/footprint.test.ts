// SPDX-License-Identifier: Apache-2.0
// Which texts of the data path name the same bytes.
import { describe, expect, test } from 'vitest';
import { footprintOf, meetings } from '../../../src/vbd/sharing.ts';

const FILE = 'file device 8:1 inode 12 born 1.2';
const DISK = 'dm LVM-abc';

describe('what meets what', () => {
  const meet = (one: string, other: string) =>
    meetings(footprintOf(one), footprintOf(other)).length > 0;

  test.each([
    [FILE, FILE, true],
    [DISK, `${DISK} as qcow2`, true],
    ['file file system 9 inode 7 born 3.4', 'loop file system 9 inode 7 from 512 to 0', true],
    ['file file system 9 inode 7 born 3.4', 'loop file system 8 inode 7 from 512 to 0', false],
    ['wwid naa.5', 'partition 1 at 2048 of wwid naa.5', true],
    ['partition 1 at 2048 of wwid naa.5', 'partition 1 at 2048 of wwid naa.5 as vpc', true],
    ['partition 1 at 2048 of wwid naa.5', 'partition 2 at 4096 of wwid naa.5', false],
    ['partition 1 at 2048 of wwid naa.5', 'wwid naa.6', false],
    ['nvme 1 wwid eui.7', 'wwid eui.7', true],
    ['nvme 1 wwid eui.7', 'partition 3 at 64 of wwid eui.7 as qcow2', true],
    ['device 7:0 sequence 4', 'device 7:0 sequence 5', false],
    ['nbd socket /run/a export x', 'nbd socket /run/a export y', false],
    ['zvol tank/a as qcow2', 'zvol tank/a as qcow2 as qcow2', true],
    ['', '', false],
  ])('%s and %s: %s', (one, other, isSame) => {
    expect(meet(one, other)).toBe(isSame);
    expect(meet(other, one)).toBe(isSame);
  });
});
