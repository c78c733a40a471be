// SPDX-License-Identifier: Apache-2.0
// The contract on Xen's own xenstored, where it is installed: it runs in a mount namespace of its
// own, and xenstored_shim.cc stands for Xen. The rig runs the same on a living host.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, it, vi } from 'vitest';
import { openXenstore } from '../../src/xenstore/connection.ts';
import { temporaryFolder } from '../support/temporary_folder.ts';
import { xenstoreContract } from './xenstore.ts';

const SHIM = fileURLToPath(new URL('xenstored_shim.cc', import.meta.url));
const PLACE = '/run/xenstored';

function findXenstored(): string | undefined {
  const folders = readdirSync('/usr/lib').filter((name) => name.startsWith('xen-'));
  const programs = folders.map((name) => `/usr/lib/${name}/bin/xenstored`);
  return programs.find((program) => existsSync(program));
}

const program = findXenstored();
const whyNot =
  (program === undefined && 'there is no xenstored (Debian: xen-utils)') ||
  (process.getuid?.() !== 0 && 'a mount namespace takes root') ||
  (existsSync('/sys/hypervisor/type') && 'this is a Xen domain; its xenstored is not for tests');

if (program === undefined || whyNot) {
  describe('the C xenstored', () => {
    it('passes the contract', ({ skip }) => skip(String(whyNot)));
  });
} else {
  let server: ChildProcess;
  let socket: string;
  beforeAll(async () => {
    const folder = temporaryFolder();
    socket = path.join(folder, 'socket');
    const shim = path.join(folder, 'shim.so');
    execFileSync('g++', ['-std=c++20', '-shared', '-fPIC', '-o', shim, SHIM, '-ldl']);
    const script =
      'mkdir -p "$1" /var/lib/xenstored && mount --bind "$2" "$1" && ' +
      'LD_PRELOAD="$3" exec "$4" --no-fork --internal-db';
    const args = ['--mount', 'sh', '-c', script, 'sh', PLACE, folder, shim, program];
    server = spawn('unshare', args, { stdio: 'ignore' });
    await vi.waitUntil(() => existsSync(socket), { timeout: 10_000 });
  }, 60_000);
  afterAll(async () => {
    server.kill('SIGKILL');
    await once(server, 'close');
  });
  xenstoreContract('the C xenstored', () => openXenstore({ path: socket }));
}
