// SPDX-License-Identifier: Apache-2.0
// The shipped unit, as systemd itself judges it; the rig runs under it.
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { EXIT_CODE } from '../../../src/cli/exit_code.ts';
import { RUNTIME_DIR } from '../../../src/config.ts';
import { temporaryFolder } from '../../support/temporary_folder.ts';

const UNIT = fileURLToPath(new URL('../../../src/host/ringdisk.service', import.meta.url));
/** Of 10; SECURITY.md says what is left and why. */
const EXPOSURE_MAX = 1.3;

const lines = readFileSync(UNIT, 'utf8').split('\n');

function valuesOf(key: string): string[] {
  return lines
    .filter((line) => line.startsWith(`${key}=`))
    .flatMap((line) => line.slice(key.length + 1).split(' '))
    .filter((value) => value !== '');
}

describe('ringdisk.service', () => {
  it(`exposes at most ${EXPOSURE_MAX} by systemd-analyze security`, ({ skip }) => {
    const options = ['security', '--offline=true', '--no-pager'];
    const { error, stdout } = spawnSync('systemd-analyze', [...options, UNIT], {
      encoding: 'utf8',
    });
    if (error) skip('there is no systemd-analyze');
    const level = /Overall exposure level for ringdisk\.service: ([0-9.]+)/.exec(stdout)?.[1];
    if (level === undefined) skip('this systemd-analyze has no --offline (systemd 250 has)');
    expect(Number(level)).toBeLessThanOrEqual(EXPOSURE_MAX);
  });

  it('keeps what a successor needs, and starts it whatever happens', () => {
    expect(valuesOf('RuntimeDirectoryPreserve')).toEqual(['yes']);
    expect(valuesOf('Restart')).toEqual(['always']);
    expect(valuesOf('RestartSec')).toEqual(['0']);
    expect(valuesOf('StartLimitIntervalSec')).toEqual(['0']);
  });

  it('does not start again what cannot start', () => {
    const { usage, config } = EXIT_CODE;
    expect(valuesOf('RestartPreventExitStatus')).toEqual([String(usage), String(config)]);
  });

  it('ends with the daemon, whatever its workers are stuck in', () => {
    expect(valuesOf('KillMode')).toEqual(['process']);
  });

  it('leaves enough tasks to the disks beside those whose media hang', () => {
    expect(valuesOf('TasksMax')).toEqual(['infinity']);
  });

  it('shows what XAPI mounts later, below a folder that is made for it', () => {
    expect(valuesOf('BindPaths')).toContain('-/run/sr-mount');
    const made = readFileSync('src/host/ringdisk.tmpfiles.conf', 'utf8');
    expect(made).toMatch(/^d \/run\/sr-mount 0755 root root -$/m);
  });

  it('is understood by systemd', ({ skip }) => {
    const folder = temporaryFolder();
    // The command need not be installed for this.
    const text = lines.join('\n').replace('ExecStart=ringdisk', 'ExecStart=/bin/true');
    const unit = path.join(folder, 'ringdisk.service');
    writeFileSync(unit, text);
    const verify = ['verify', '--man=no', unit];
    const { error, stderr, status } = spawnSync('systemd-analyze', verify, { encoding: 'utf8' });
    if (error) skip('there is no systemd-analyze');
    const ours = stderr.split('\n').filter((line) => line.includes('ringdisk'));
    expect(ours).toEqual([]);
    expect(status, stderr).toBe(0);
  });

  it('shows the daemon the directory it uses by default', () => {
    expect(valuesOf('BindPaths')).toContain(RUNTIME_DIR);
    expect(valuesOf('RuntimeDirectory').map((name) => `/run/${name}`)).toEqual([RUNTIME_DIR]);
  });

  it('gives it no capability', () => {
    expect(lines).toContain('CapabilityBoundingSet=');
    expect(lines).toContain('AmbientCapabilities=');
  });
});
