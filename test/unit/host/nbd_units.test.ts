// SPDX-License-Identifier: Apache-2.0
// The units of NBD over the network, as systemd itself judges them.
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../support/temporary_folder.ts';

const HOST = 'src/host';
const SERVICES = ['ringdisk-nbd-listen.service', 'ringdisk-nbd-connect@.service'];
/** Of 10; SECURITY.md names it. */
const EXPOSURE_MAX = 1.4;

function textOf(name: string): string {
  return readFileSync(path.join(HOST, name), 'utf8');
}

/** Systemd's own words; undefined where there is none. */
function analyze(...args: string[]) {
  const { error, ...said } = spawnSync('systemd-analyze', args, { encoding: 'utf8' });
  return error ? undefined : said;
}

describe.each(SERVICES)('%s', (name) => {
  it(`exposes at most ${EXPOSURE_MAX} by systemd-analyze security`, ({ skip }) => {
    const options = ['security', '--offline=true', '--no-pager'];
    const said = analyze(...options, path.join(HOST, name)) ?? skip('there is no systemd-analyze');
    const level = /Overall exposure level for .*: ([0-9.]+)/.exec(said.stdout)?.[1];
    if (level === undefined) skip('this systemd-analyze has no --offline (systemd 250 has)');
    expect(Number(level)).toBeLessThanOrEqual(EXPOSURE_MAX);
  });

  it('is nobody in particular, and has no capability', () => {
    const lines = textOf(name).split('\n');
    expect(lines).toContain('DynamicUser=yes');
    expect(lines).toContain('CapabilityBoundingSet=');
    expect(lines).toContain('NoNewPrivileges=yes');
  });
});

describe('the units of NBD over the network', () => {
  it('are understood by systemd', ({ skip }) => {
    const folder = temporaryFolder();
    const units = [...SERVICES, 'ringdisk-nbd-connect@.socket'];
    mkdirSync(path.join(folder, 'units'));
    const copies = units.map((name) => path.join(folder, 'units', name));
    for (const [index, name] of units.entries()) {
      // The command need not be installed for this.
      const text = textOf(name).replace('ExecStart=ringdisk', 'ExecStart=/bin/true');
      writeFileSync(copies[index] ?? '', text);
    }
    copyFileSync(path.join(HOST, 'ringdisk.service'), path.join(folder, 'units/ringdisk.service'));
    const verify = ['verify', '--man=no', ...copies.map((copy) => copy.replace('@.', '@host.'))];
    const said = analyze(...verify) ?? skip('there is no systemd-analyze');
    const ours = said.stderr.split('\n').filter((line) => /ringdisk-nbd/.test(line));
    expect(ours).toEqual([]);
  });

  it('share a group and a folder that the daemon sees', () => {
    expect(textOf('ringdisk-nbd-listen.service')).toMatch(/^Group=ringdisk-nbd$/m);
    expect(textOf('ringdisk-nbd-listen.service')).toContain('--to /run/ringdisk-nbd/network.sock');
    expect(textOf('ringdisk.sysusers.conf')).toMatch(/^g ringdisk-nbd -$/m);
    // The setgid bit: what the daemon makes there is the group's, though it may not give it away.
    const made = /^d \/run\/ringdisk-nbd 2750 root ringdisk-nbd -$/m;
    expect(textOf('ringdisk-nbd.tmpfiles.conf')).toMatch(made);
    expect(textOf('ringdisk.service')).toMatch(/^BindPaths=.* -\/run\/ringdisk-nbd /m);
  });
});
