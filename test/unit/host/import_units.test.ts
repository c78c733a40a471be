// SPDX-License-Identifier: Apache-2.0
// The units of disks that come from other hosts, as systemd itself judges them, and as the manager
// and the installation count on them.
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { IMPORT_PROGRAM, IMPORT_SOCKET } from '../../../src/smapi/imports.ts';
import { PLUGIN_ROOT } from '../../../src/smapi/layout.ts';
import { SCHEME } from '../../../src/smapi/uri.ts';
import { MANAGE_DIR } from '../../../src/volume/manage_protocol.ts';
import { temporaryFolder } from '../../support/temporary_folder.ts';

const SOCKET = readFileSync('src/host/ringdisk-import.socket', 'utf8');
const SERVICE = readFileSync('src/host/ringdisk-import@.service', 'utf8');

describe('ringdisk-import', () => {
  it('is understood by systemd, and its socket', ({ skip }) => {
    const folder = temporaryFolder();
    const file = (name: string) => path.join(folder, name);
    writeFileSync(file('ringdisk-import.socket'), SOCKET);
    for (const name of ['ringdisk-import@.service', 'ringdisk-import@1.service']) {
      writeFileSync(file(name), SERVICE);
    }
    const units = ['ringdisk-import.socket', 'ringdisk-import@1.service'].map(file);
    const args = ['verify', '--man=no', ...units];
    const { error, stderr } = spawnSync('systemd-analyze', args, { encoding: 'utf8' });
    if (error) skip('there is no systemd-analyze');
    expect(stderr.split('\n').filter((line) => line.includes('ringdisk'))).toEqual([]);
  });

  it('runs what is installed for it, and listens where the manager asks', () => {
    const program = path.join(PLUGIN_ROOT, 'datapath', SCHEME, IMPORT_PROGRAM);
    expect(SERVICE).toContain(`ExecStart=/usr/bin/python3 -IS ${program}\n`);
    expect(SOCKET).toContain(`ListenStream=${IMPORT_SOCKET}\n`);
    expect(SERVICE).toContain(`ReadWritePaths=${MANAGE_DIR}\n`);
  });
});
