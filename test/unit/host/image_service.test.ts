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
const DAEMON = 'ringdisk.service';

/** The most that `systemd-analyze security` may say, of 10. */
const UNITS = [
  { name: 'ringdisk-image', format: 'qcow2', exposureMax: 1.3 },
  { name: 'ringdisk-image-net', format: 'rbd', exposureMax: 2.0 },
] as const;

const textOf = (unit: string) => readFileSync(path.join(HOST, unit), 'utf8');

function valuesOf(unit: string, key: string): string[] {
  return textOf(unit)
    .split('\n')
    .filter((line) => line.startsWith(`${key}=`))
    .flatMap((line) => line.slice(key.length + 1).split(' '))
    .filter((value) => value !== '');
}

/** As systemd finds it: an instance, with a program that is there. */
function installed(name: string): { service: string; socket: string } {
  const folder = temporaryFolder();
  const service = path.join(folder, `${name}@1.service`);
  const socket = path.join(folder, `${name}.socket`);
  const text = textOf(`${name}@.service`).replace('ExecStart=ringdisk', 'ExecStart=/bin/true');
  for (const file of [service, path.join(folder, `${name}@.service`)]) writeFileSync(file, text);
  writeFileSync(socket, textOf(`${name}.socket`));
  return { service, socket };
}

describe.each(UNITS)('$name', ({ name, format, exposureMax }) => {
  const service = `${name}@.service`;
  const socket = `${name}.socket`;

  it('is understood by systemd, and its socket', ({ skip }) => {
    const files = installed(name);
    const args = ['verify', '--man=no', files.socket, files.service];
    const { error, stderr } = spawnSync('systemd-analyze', args, { encoding: 'utf8' });
    if (error) skip('there is no systemd-analyze');
    expect(stderr.split('\n').filter((line) => line.includes('ringdisk'))).toEqual([]);
  });

  it(`exposes at most ${exposureMax} by systemd-analyze security`, ({ skip }) => {
    const args = ['security', '--offline=true', '--no-pager', installed(name).service];
    const { error, stdout } = spawnSync('systemd-analyze', args, { encoding: 'utf8' });
    if (error) skip('there is no systemd-analyze');
    const level = /Overall exposure level for \S+: ([0-9.]+)/.exec(stdout)?.[1];
    if (level === undefined) skip('this systemd-analyze has no --offline (systemd 250 has)');
    expect(Number(level)).toBeLessThanOrEqual(exposureMax);
  });

  it('becomes a helper, on the connection that started it', () => {
    expect(valuesOf(service, 'ExecStart')).toEqual(['ringdisk', HELPER_COMMAND]);
    expect(valuesOf(service, 'StandardInput')).toEqual(['socket']);
    expect(valuesOf(service, 'StandardOutput')).toEqual(['socket']);
    expect(valuesOf(socket, 'Accept')).toEqual(['yes']);
  });

  it('listens where the daemon asks, and nobody else may', () => {
    expect(valuesOf(socket, 'ListenStream')).toEqual([helperSocket(RUNTIME_DIR, format)]);
    expect(valuesOf(socket, 'SocketMode')).toEqual(['0600']);
    expect(valuesOf(DAEMON, 'Wants')).toContain(socket);
  });

  it("sees of the daemon's files those of images alone, and none of Xen's devices", () => {
    const seen = ['BindPaths', 'BindReadOnlyPaths'].flatMap((key) => valuesOf(service, key));
    expect(seen.filter((one) => one.includes('ringdisk'))).toEqual([imagesFolder(RUNTIME_DIR)]);
    expect(valuesOf(service, 'DeviceAllow').filter((one) => /xen/.test(one))).toEqual([]);
    expect(valuesOf(service, 'DevicePolicy')).toEqual(['closed']);
  });

  it('has no capability, and may confine itself further', () => {
    expect(textOf(service)).toMatch(/^CapabilityBoundingSet=$/m);
    expect(valuesOf(service, 'SystemCallFilter')).toContain('landlock_restrict_self');
  });

  it('does not end with the daemon, but after it', () => {
    for (const key of ['BindsTo', 'PartOf', 'Requires', 'Requisite']) {
      expect(valuesOf(service, key)).toEqual([]);
    }
    expect(valuesOf(service, 'Before')).toContain(DAEMON);
  });
});

describe('an image of this host', () => {
  const service = 'ringdisk-image@.service';

  it('may lie where the daemon opens files and devices', () => {
    expect(valuesOf(service, 'ReadWritePaths')).toEqual(valuesOf(DAEMON, 'ReadWritePaths'));
    expect(valuesOf(service, 'DeviceAllow')).toEqual(['block-*', 'rw']);
  });

  it('has no network, and its sockets where the daemon can ask for their state', () => {
    expect(valuesOf(service, 'PrivateNetwork')).toEqual(['yes']);
    const namespace = valuesOf(DAEMON, 'JoinsNamespaceOf');
    expect(namespace).toHaveLength(1);
    expect(valuesOf(service, 'JoinsNamespaceOf')).toEqual(namespace);
  });

  it('is confined where the daemon itself starts it, too', () => {
    expect(valuesOf(DAEMON, 'SystemCallFilter')).toContain('landlock_restrict_self');
  });
});
