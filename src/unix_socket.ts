// SPDX-License-Identifier: Apache-2.0
// UNIX sockets that we listen on.
import { lstatSync, rmSync } from 'node:fs';
import { createConnection, type ListenOptions, type Server } from 'node:net';

/** sun_path's size on Linux, without its final zero. */
export const SOCKET_PATH_BYTES_MAX = 107;

/**
 * Resolves when the server listens. bind() happens within listen(): the socket is never open to
 * others, not even for a moment.
 */
export async function listenUnseen(
  server: Server,
  where: ListenOptions | { fd: number },
): Promise<void> {
  const listening = new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.once('listening', () => {
      server.off('error', reject);
      resolve();
    });
  });
  const umask = process.umask(0o177);
  try {
    server.listen(where);
  } finally {
    process.umask(umask);
  }
  await listening;
}

/** Whether nobody listens there: there is no socket, or one that a killed process has left. */
export function isAbandoned(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createConnection(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(false);
    });
    probe.once('error', (error: NodeJS.ErrnoException) => {
      resolve(error.code === 'ECONNREFUSED' || error.code === 'ENOENT');
    });
  });
}

/** What a process that was killed has left. Whatever is no socket stays: that refuses, too. */
export async function removeAbandoned(path: string): Promise<void> {
  if (!(await isAbandoned(path))) return;
  if (lstatSync(path, { throwIfNoEntry: false })?.isSocket()) rmSync(path, { force: true });
}
