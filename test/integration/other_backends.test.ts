// SPDX-License-Identifier: Apache-2.0
// `ringdisk serve` beside a tapback, played by a program of that name. Without Xen it then ends for
// want of a xenstore; on Xen it would serve the disks of this host.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { pidsOf } from '../../src/cli/other_backends.ts';
import { ringdisk } from '../support/serve_process.ts';
import { temporaryFolder } from '../support/temporary_folder.ts';

const isXen = existsSync('/sys/hypervisor/type');
if (isXen) console.log('skipped: this is a Xen host, whose disks are not for tests');

let folder: string;
let tapback: ChildProcess;
beforeEach(async () => {
  folder = temporaryFolder();
  copyFileSync('/bin/sleep', path.join(folder, 'tapback'));
  tapback = spawn(path.join(folder, 'tapback'), ['60']);
  await once(tapback, 'spawn');
  await expect.poll(() => pidsOf('tapback')).toContain(tapback.pid);
});
afterEach(async () => {
  tapback.kill();
  await once(tapback, 'close');
});

const serve = (...args: string[]) => ringdisk('serve', '--runtime-dir', folder, ...args);

it.skipIf(isXen)('refuses to serve its disks, and says so', async () => {
  const { status, stderr } = await serve();
  expect(status).toBe(1);
  expect(stderr).toMatch(/kind vbd3 are served by somebody else here: tapback runs/);
  expect(stderr).toContain(`process ${tapback.pid}`);
});

it.skipIf(isXen).each([
  ['other disks', ['--backend', 'other']],
  ['its disks where it is told to', ['--force']],
])('serves %s', async (_what, args) => {
  const { stderr } = await serve(...args);
  expect(stderr).not.toContain('served by somebody else');
  expect(stderr).toMatch(/xenstore|gntdev/);
});

it.skipIf(isXen)('goes on with disks that a daemon before has left', async () => {
  mkdirSync(path.join(folder, 'vbds'));
  writeFileSync(path.join(folder, 'vbds/vbd3-1-51712.json'), '{}');
  expect((await serve()).stderr).not.toContain('served by somebody else');
});
