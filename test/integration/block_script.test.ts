// SPDX-License-Identifier: Apache-2.0
// src/host/block-ringdisk as libxl calls it, with xenstore's commands played by a folder of files.
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
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
  const file = path.join(folder, BACKEND, name);
  if (value !== undefined) writeFileSync(file, `${value}\n`);
  try {
    return readFileSync(file, 'utf8').trim();
  } catch {
    return undefined;
  }
}

function run(args: string[], xenbusPath: string | undefined = BACKEND) {
  const env = { PATH: `${folder}/bin:/usr/bin:/bin`, STORE: folder, XENBUS_PATH: xenbusPath };
  return spawnSync('sh', [SCRIPT, ...args], { env, encoding: 'utf8' });
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
