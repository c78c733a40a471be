// SPDX-License-Identifier: Apache-2.0
// src/host/block-ringdisk as libxl calls it, with xenstore's commands played by a folder of files.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const SCRIPT = fileURLToPath(new URL('../../src/host/block-ringdisk', import.meta.url));
const BACKEND = '/local/domain/0/backend/vbd3/1/51712';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'ringdisk-test-'));
  mkdirSync(path.join(folder, 'bin'));
  mkdirSync(path.join(folder, BACKEND), { recursive: true });
  command('xenstore-read', 'cat "$STORE$1"');
  command('xenstore-write', 'while [ $# -gt 0 ]; do echo "$2" >"$STORE$1"; shift 2; done');
  // The script waits ten of them for the daemon.
  command('sleep', 'exit 0');
});
afterEach(() => rmSync(folder, { recursive: true }));

function command(name: string, body: string): void {
  const file = path.join(folder, 'bin', name);
  writeFileSync(file, `#!/bin/sh\n${body}\n`);
  chmodSync(file, 0o755);
}

function node(name: string, value?: string): string | undefined {
  const file = path.join(folder, name.startsWith('/') ? name : `${BACKEND}/${name}`);
  if (value !== undefined) {
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, `${value}\n`);
  }
  try {
    return readFileSync(file, 'utf8').trim();
  } catch {
    return undefined;
  }
}

function run(args: string[], xenbusPath: string | undefined = BACKEND, script = SCRIPT) {
  const env = { PATH: `${folder}/bin:/usr/bin:/bin`, STORE: folder, XENBUS_PATH: xenbusPath };
  return spawnSync('sh', [script, ...args], { env, encoding: 'utf8' });
}

/** Installed as what libxl runs for backendtype=tap without script=. */
function runAsBlockTap(xenbusPath = BACKEND) {
  const script = path.join(folder, 'block-tap');
  copyFileSync(SCRIPT, script);
  return run(['add'], xenbusPath, script);
}

describe('block-ringdisk', () => {
  it.each(['2', '3', '4'])('says connected when the daemon has taken the disk (%s)', (state) => {
    node('state', state);
    expect(run(['add']).status).toBe(0);
    expect(node('hotplug-status')).toBe('connected');
  });

  it('tells xl what to do when there is no daemon', () => {
    node('state', '1');
    const { status, stderr } = run(['add']);
    expect(status).toBe(1);
    expect(stderr).toContain('systemctl start ringdisk');
    expect(node('hotplug-status')).toBe('error');
    expect(node('hotplug-error')).toContain('no daemon serves');
  });

  it('passes on why the daemon refused the disk', () => {
    node('state', '1');
    node('hotplug-status', 'error');
    node('hotplug-error', '/dev/vg/none: ENOENT');
    expect(run(['add']).status).toBe(1);
    expect(node('hotplug-error')).toContain('/dev/vg/none: ENOENT');
  });

  it('has nothing to do on remove', () => {
    expect(run(['remove']).status).toBe(0);
    expect(node('hotplug-status')).toBeUndefined();
  });

  it('refuses other uses', () => {
    expect(run(['online']).status).toBe(1);
    expect(run(['add'], '').stderr).toContain('XENBUS_PATH is not set');
  });
});

describe('physical-device-path', () => {
  const PHY = '/local/domain/0/backend/vbd/1/51712';

  it('is written where others may open the disk by its path', () => {
    node(`${PHY}/state`, '2');
    node(`${PHY}/params`, SCRIPT);
    expect(run(['add'], PHY).status).toBe(0);
    expect(node(`${PHY}/physical-device-path`)).toBe(SCRIPT);
    expect(node(`${PHY}/hotplug-status`)).toBe('connected');
  });

  it('is written as block-tap, which libxl asks for no socket', () => {
    node('state', '2');
    node('params', `aio:${SCRIPT}`);
    expect(runAsBlockTap().status).toBe(0);
    expect(node('physical-device-path')).toBe(SCRIPT);
  });

  it('is not written where libxl takes it for the socket of a tapdisk', () => {
    node('state', '2');
    node('params', `aio:${SCRIPT}`);
    expect(run(['add']).status).toBe(0);
    expect(node('physical-device-path')).toBeUndefined();
  });

  it.each(['on-error=stop:/dev/null', 'null:1G', '/none/there', ''])(
    'is not written where there is no such path: %j',
    (params) => {
      node(`${PHY}/state`, '2');
      node(`${PHY}/params`, params);
      expect(run(['add'], PHY).status).toBe(0);
      expect(node(`${PHY}/physical-device-path`)).toBeUndefined();
    },
  );

  it('is left alone where the script that called this one has written it', () => {
    node(`${PHY}/state`, '2');
    node(`${PHY}/params`, SCRIPT);
    node(`${PHY}/physical-device-path`, '/dev/sdx');
    expect(run(['add'], PHY).status).toBe(0);
    expect(node(`${PHY}/physical-device-path`)).toBe('/dev/sdx');
  });
});

describe('as block-tap', () => {
  beforeEach(() => node('state', '2'));

  it.each([
    ['hvm', 'hda'],
    ['hvm', 'xvda'],
    ['hvm', 'sdz'],
  ])('refuses options that QEMU would take for a path: %s %s', (type, dev) => {
    node('/libxl/1/type', type);
    node('dev', dev);
    node('params', 'aio:on-error=stop:/dev/vg/disk');
    const { status, stderr } = runAsBlockTap();
    expect(status).toBe(1);
    expect(stderr).toMatch(/^block-tap: the target on-error=stop:\/dev\/vg\/disk is no plain path/);
    expect(node('hotplug-error')).toContain('no plain path');
  });

  it.each([
    ['pv', 'xvda', 'aio:on-error=stop:/dev/vg/disk'],
    ['pvh', 'xvda', 'aio:nvme:/dev/ng0n1'],
    ['hvm', 'xvde', 'aio:on-error=stop:/dev/vg/disk'],
    ['hvm', 'hda', 'aio:/dev/vg/disk'],
    ['hvm', 'hdc', 'aio:'],
  ])('takes all that works: %s %s %s', (type, dev, params) => {
    node('/libxl/1/type', type);
    node('dev', dev);
    node('params', params);
    expect(runAsBlockTap().status).toBe(0);
    expect(node('hotplug-status')).toBe('connected');
  });

  it('under its own name takes options for any guest', () => {
    node('/libxl/1/type', 'hvm');
    node('dev', 'hda');
    node('params', 'aio:on-error=stop:/dev/vg/disk');
    expect(run(['add']).status).toBe(0);
  });
});
