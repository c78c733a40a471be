// SPDX-License-Identifier: Apache-2.0
// The volume manager's unit, as systemd itself judges it.
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../support/temporary_folder.ts';

const UNIT = 'src/host/ringdisk-manage.service';
const text = readFileSync(UNIT, 'utf8');

describe('ringdisk-manage.service', () => {
  it('has no setting that systemd does not know', ({ skip }) => {
    const file = path.join(temporaryFolder(), 'ringdisk-manage.service');
    // Verify wants to find the program.
    writeFileSync(file, text.replace('ExecStart=ringdisk', 'ExecStart=/bin/true'));
    const { error, stderr } = spawnSync('systemd-analyze', ['verify', file], { encoding: 'utf8' });
    if (error) skip('there is no systemd-analyze');
    expect(stderr).not.toMatch(/Unknown|Failed to parse|ringdisk-manage\.service:\d+/);
  });

  it('is given a network by a drop-in of a few hosts', ({ skip }) => {
    const folder = temporaryFolder();
    const file = path.join(folder, 'ringdisk-manage.service');
    writeFileSync(file, text.replace('ExecStart=ringdisk', 'ExecStart=/bin/true'));
    mkdirSync(`${file}.d`);
    copyFileSync('src/host/ringdisk-manage.network.conf', `${file}.d/network.conf`);
    const { error, stderr } = spawnSync('systemd-analyze', ['verify', file], { encoding: 'utf8' });
    if (error) skip('there is no systemd-analyze');
    expect(stderr).not.toMatch(/Unknown|Failed to parse|network\.conf:\d+/);
    expect(text).toMatch(/^IPAddressDeny=any$/m);
  });

  it('has no option that would hide devices or mounts of the host from ZFS', () => {
    const settings = text.split('\n').filter((line) => !line.startsWith('#'));
    const hiding = /^(Private|ProtectSystem|ProtectHome|ProtectClock|Device|ReadOnly|Temporary)/;
    expect(settings.filter((line) => hiding.test(line))).toEqual([]);
    expect(settings).toContain('NoNewPrivileges=yes');
  });

  it('ends with what it has started, and keeps what is attached for whom', () => {
    const settings = text.split('\n');
    expect(settings).toContain('KillMode=control-group');
    expect(settings).toContain('RuntimeDirectoryPreserve=yes');
  });
});
