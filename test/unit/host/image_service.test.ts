// SPDX-License-Identifier: Apache-2.0
// The units of images, as systemd itself judges them; the rig runs them.
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { RUNTIME_DIR } from '../../../src/config.ts';
import { imagesFolder } from '../../../src/formats/helper_record.ts';
import { HELPER_COMMAND, helperSocket } from '../../../src/formats/start_helper.ts';
import { temporaryFolder } from '../../support/temporary_folder.ts';

const HOST = 'src/host';
const SERVICE = 'ringdisk-image@.service';
const SOCKET = 'ringdisk-image.socket';
/** Of 10: what of the daemon's 1.2 is not here is the network, for rbd and https. */
const EXPOSURE_MAX = 2.2;

const textOf = (unit: string) => readFileSync(path.join(HOST, unit), 'utf8');

function valuesOf(unit: string, key: string): string[] {
  return textOf(unit)
    .split('\n')
    .filter((line) => line.startsWith(`${key}=`))
    .flatMap((line) => line.slice(key.length + 1).split(' '))
    .filter((value) => value !== '');
}

/** As systemd finds it: an instance, with a program that is there. */
function installed(): { folder: string; service: string; socket: string } {
  const folder = temporaryFolder();
  const service = path.join(folder, SERVICE.replace('@', '@1'));
  const socket = path.join(folder, SOCKET);
  const text = textOf(SERVICE).replace('ExecStart=ringdisk', 'ExecStart=/bin/true');
  for (const file of [service, path.join(folder, SERVICE)]) writeFileSync(file, text);
  writeFileSync(socket, textOf(SOCKET));
  return { folder, service, socket };
}

describe(SERVICE, () => {
  it('is understood by systemd, and its socket', ({ skip }) => {
    const { service, socket } = installed();
    const args = ['verify', '--man=no', socket, service];
    const { error, stderr } = spawnSync('systemd-analyze', args, { encoding: 'utf8' });
    if (error) skip('there is no systemd-analyze');
    expect(stderr.split('\n').filter((line) => line.includes('ringdisk'))).toEqual([]);
  });

  it(`exposes at most ${EXPOSURE_MAX} by systemd-analyze security`, ({ skip }) => {
    const args = ['security', '--offline=true', '--no-pager', installed().service];
    const { error, stdout } = spawnSync('systemd-analyze', args, { encoding: 'utf8' });
    if (error) skip('there is no systemd-analyze');
    const level = /Overall exposure level for \S+: ([0-9.]+)/.exec(stdout)?.[1];
    if (level === undefined) skip('this systemd-analyze has no --offline (systemd 250 has)');
    expect(Number(level)).toBeLessThanOrEqual(EXPOSURE_MAX);
  });

  it('becomes a helper, on the connection that started it', () => {
    expect(valuesOf(SERVICE, 'ExecStart')).toEqual(['ringdisk', HELPER_COMMAND]);
    expect(valuesOf(SERVICE, 'StandardInput')).toEqual(['socket']);
    expect(valuesOf(SERVICE, 'StandardOutput')).toEqual(['socket']);
    expect(valuesOf(SOCKET, 'Accept')).toEqual(['yes']);
  });

  it('listens where the daemon asks, and nobody else may', () => {
    expect(valuesOf(SOCKET, 'ListenStream')).toEqual([helperSocket(RUNTIME_DIR)]);
    expect(valuesOf(SOCKET, 'SocketMode')).toEqual(['0600']);
    expect(valuesOf('ringdisk.service', 'Wants')).toContain(SOCKET);
  });

  it("sees of the daemon's files those of images alone, and none of Xen's devices", () => {
    const seen = ['BindPaths', 'BindReadOnlyPaths'].flatMap((key) => valuesOf(SERVICE, key));
    expect(seen.filter((one) => one.includes('ringdisk'))).toEqual([imagesFolder(RUNTIME_DIR)]);
    expect(valuesOf(SERVICE, 'DeviceAllow')).toEqual(['block-*', 'rw']);
    expect(valuesOf(SERVICE, 'DevicePolicy')).toEqual(['closed']);
  });

  it('has the images that the daemon has, and no capability', () => {
    const places = valuesOf(SERVICE, 'ReadWritePaths');
    expect(places).toEqual(valuesOf('ringdisk.service', 'ReadWritePaths'));
    expect(textOf(SERVICE)).toMatch(/^CapabilityBoundingSet=$/m);
  });

  it('may confine itself further, here as in the daemon', () => {
    for (const unit of [SERVICE, 'ringdisk.service']) {
      expect(valuesOf(unit, 'SystemCallFilter')).toContain('landlock_restrict_self');
    }
  });

  it('does not end with the daemon', () => {
    for (const key of ['BindsTo', 'PartOf', 'Requires', 'Requisite']) {
      expect(valuesOf(SERVICE, key)).toEqual([]);
    }
    expect(valuesOf(SERVICE, 'Before')).toContain('ringdisk.service');
  });
});
