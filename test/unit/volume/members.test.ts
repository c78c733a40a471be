// SPDX-License-Identifier: Apache-2.0
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createLogger } from '../../../src/log.ts';
import { Context } from '../../../src/volume/context.ts';
import { memberName, wholeDisk } from '../../../src/volume/members.ts';

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'members-'));
  for (const disk of ['a', 'b']) writeFileSync(path.join(folder, disk), '');
  symlinkSync(path.join(folder, 'a'), path.join(folder, 'stable-a'));
});

afterEach(() => rmSync(folder, { recursive: true }));

function poolOf(...disks: string[]): Context {
  const rows = disks.map((disk) => `\t  ${disk}  ONLINE  0  0  0\n`).join('');
  const text = `  pool: tank
 state: ONLINE
config:

\tNAME  STATE  READ WRITE CKSUM
\ttank  ONLINE  0  0  0
${rows}
errors: No known data errors
`;
  return new Context(async () => text, createLogger({ level: 'silent' }));
}

describe("a disk's name in its pool", () => {
  it('is found by any name of the disk', async () => {
    const stable = path.join(folder, 'stable-a');
    const pool = poolOf(`${stable}-part1`, stable, path.join(folder, 'b'));
    expect(await memberName(pool, 'tank', `${stable}-part1`)).toBe(`${stable}-part1`);
    const one = poolOf(stable, path.join(folder, 'b'));
    expect(await memberName(one, 'tank', path.join(folder, 'a'))).toBe(stable);
    expect(await memberName(one, 'tank', 'stable-a')).toBe(stable);
    expect(await memberName(one, 'tank', 'b')).toBe(path.join(folder, 'b'));
  });

  it('is found by the name that a disk had before it was gone', async () => {
    const pool = poolOf('4711', path.join(folder, 'b'));
    const text = (await pool.run('zpool', [])).replace(
      /4711 {2}ONLINE {2}0 {2}0 {2}0/,
      '4711  UNAVAIL  0  0  0  was /dev/disk/by-id/x-part1',
    );
    const gone = new Context(async () => text, createLogger({ level: 'silent' }));
    expect(await memberName(gone, 'tank', '/dev/disk/by-id/x')).toBe('4711');
  });

  it('is refused where it is none, or not one alone', async () => {
    const pool = poolOf('/here/0', '/there/0');
    const unknown = { code: 'DISK_UNKNOWN' };
    await expect(memberName(pool, 'tank', '/dev/none')).rejects.toMatchObject(unknown);
    await expect(memberName(pool, 'tank', '0')).rejects.toMatchObject(unknown);
    await expect(memberName(pool, 'tank', '0')).rejects.toThrow('it has /here/0, /there/0');
  });

  it.each([
    ['/dev/sda1', '/dev/sda'],
    ['/dev/sdab12', '/dev/sdab'],
    ['/dev/nvme0n1p1', '/dev/nvme0n1'],
    ['/dev/nvme0n1', '/dev/nvme0n1'],
    ['/dev/loop3p1', '/dev/loop3'],
    ['/dev/loop3', '/dev/loop3'],
    ['/dev/disk/by-id/ata-x-part1', '/dev/disk/by-id/ata-x'],
    ['/tank/file1', '/tank/file1'],
  ])('%s is a part of %s', (name, whole) => {
    expect(wholeDisk(name)).toBe(whole);
  });
});
