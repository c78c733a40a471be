// SPDX-License-Identifier: Apache-2.0
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isAbandoned, listenUnseen, removeAbandoned } from '../../src/unix_socket.ts';
import { temporaryFolder } from '../support/temporary_folder.ts';

let folder: string;
beforeEach(() => {
  folder = temporaryFolder();
});
afterEach(() => rmSync(folder, { recursive: true }));

/** As a process that was killed leaves it. */
function deserted(): string {
  const file = path.join(folder, 'left.sock');
  const script = `require('net').createServer().listen(${JSON.stringify(file)},
    () => process.kill(process.pid, 'SIGKILL'))`;
  spawnSync(process.execPath, ['-e', script]);
  return file;
}

describe('a socket that is there already', () => {
  it('goes when nobody listens any more', async () => {
    const file = deserted();
    expect(existsSync(file)).toBe(true);
    await removeAbandoned(file);
    expect(existsSync(file)).toBe(false);
  });

  it('stays while somebody listens, and is for its owner alone', async () => {
    const file = path.join(folder, 'a.sock');
    const server = createServer();
    await listenUnseen(server, { path: file });
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(await isAbandoned(file)).toBe(false);
    await removeAbandoned(file);
    expect(existsSync(file)).toBe(true);
    const second = createServer();
    await expect(listenUnseen(second, { path: file })).rejects.toThrow('EADDRINUSE');
    await new Promise((resolve) => server.close(resolve));
  });

  it('is not whatever else has its name', async () => {
    const file = path.join(folder, 'disk.img');
    writeFileSync(file, 'data');
    await removeAbandoned(file);
    expect(readFileSync(file, 'utf8')).toBe('data');
    await removeAbandoned(path.join(folder, 'nothing'));
  });
});
