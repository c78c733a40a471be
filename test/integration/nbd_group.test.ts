// SPDX-License-Identifier: Apache-2.0
// An export's socket that a group may use: what a forwarder without any privilege needs.
import { chmodSync, chownSync, cpSync, existsSync, readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { Forwarding, nbdsh, TlsBench } from '../support/forwarding.ts';
import { MIB, sparseFile } from '../support/loopback_machine.ts';
import { client } from '../support/nbd_client.ts';
import { start } from '../support/serve_process.ts';
import { temporaryFolder } from '../support/temporary_folder.ts';

const bench = new TlsBench();

describe('a socket for a group', () => {
  const GROUP = 54321;
  const NOBODY = 65534;
  let folder: string;
  beforeEach(() => {
    folder = temporaryFolder();
    chownSync(folder, 0, GROUP);
    chmodSync(folder, 0o2750);
  });

  function add(...args: string[]) {
    const image = sparseFile(bench.machine.file('group.img'), MIB);
    const usual = ['--name', 'group', '--socket', path.join(folder, 'network.sock')];
    return bench.machine.daemon.cli('export', 'add', image, ...usual, ...args);
  }

  const openTo = `import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
print(len(s.recv(18)))`;

  /** What a user of these groups finds there. */
  function visitor(gid: number, more: number[] = []): Promise<string> {
    const become = `import os; os.setgroups(${JSON.stringify(more)}); os.setgid(${gid})`;
    const groups = `${become}; os.setuid(${NOBODY})`;
    return client(
      '/usr/bin/python3',
      '-c',
      `${groups}\n${openTo}`,
      path.join(folder, 'network.sock'),
    );
  }

  it('lets its members in and nobody else, whatever its mode', async ({ skip }) => {
    if (process.getuid?.() !== 0) skip('needs root, to be others');
    expect(await add('--group', String(GROUP))).toMatchObject({ status: 0, stderr: '' });
    const { mode, gid, uid } = statSync(path.join(folder, 'network.sock'));
    expect({ mode: mode & 0o777, gid, uid }).toEqual({ mode: 0o660, gid: GROUP, uid: 0 });
    expect(await visitor(GROUP)).toBe('18\n');
    expect(await visitor(NOBODY, [1, GROUP])).toBe('18\n');
    chmodSync(folder, 0o755);
    await expect(visitor(NOBODY)).rejects.toThrow('Permission denied');
    chmodSync(path.join(folder, 'network.sock'), 0o666);
    expect(await visitor(NOBODY, [1])).toBe('0\n');
    // Exports there are all for the same.
    const other = await bench.machine.daemon.cli(
      ...['export', 'add', sparseFile(bench.machine.file('other.img'), MIB)],
      ...['--socket', path.join(folder, 'network.sock')],
    );
    expect(other.stderr).toContain('another group');
  });

  it('is all that a forwarder without any privilege needs', async ({ skip }) => {
    if (process.getuid?.() !== 0) skip('needs root, to be another');
    await add('--group', String(GROUP));
    const certificates = path.join(folder, 'tls');
    cpSync(bench.good, certificates, { recursive: true });
    chmodSync(certificates, 0o750);
    for (const name of readdirSync(certificates)) {
      chownSync(path.join(certificates, name), NOBODY, GROUP);
    }
    const args = ['--to', path.join(folder, 'network.sock'), '--certificates', certificates];
    const forwarding = new Forwarding(
      start(['nbd-listen', ...args, '--port', '0'], {}, { uid: NOBODY, gid: GROUP }),
    );
    await forwarding.says('listening');
    const uri = forwarding.uri(bench.good).replace('/disk', '/group');
    await nbdsh(uri, 'h.pwrite(bytes([3]) * 512, 0); assert h.pread(512, 0)[0] == 3');
    expect(forwarding.log).not.toContain('root');
  });

  it('is refused where it would not be one', async () => {
    expect((await add('--group', 'no-such-group')).stderr).toContain('no-such-group');
    const image = sparseFile(bench.machine.file('other.img'), MIB);
    const { stderr } = await bench.machine.daemon.cli('export', 'add', image, '--group', 'root');
    expect(stderr).toContain('--socket');
    // The daemon may give files to no group but its own.
    chmodSync(folder, 0o750);
    expect((await add('--group', String(GROUP))).stderr).toContain('setgid');
    expect(existsSync(path.join(folder, 'network.sock'))).toBe(false);
  });
});
