// SPDX-License-Identifier: Apache-2.0
// One daemon per runtime directory. The lock is an abstract socket: the kernel gives its name to
// one process and takes it back when that process ends, however it ends, so nothing can be stale.
// The path of the control socket could not serve: to reuse a dead one's path is to unlink it first,
// and two daemons starting at once would unlink each other's.
import { realpathSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { ControlError } from './errors.ts';

export interface SocketLock {
  release(): Promise<void>;
}

/** Takes the lock of `runtimeDir`; throws ControlError EEXIST while another holds it. */
export function lockRuntimeDir(runtimeDir: string): Promise<SocketLock> {
  const name = `\0ringdisk${realpathSync(runtimeDir)}`;
  const server = createServer((socket) => socket.destroy());
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(error.code === 'EADDRINUSE' ? alreadyRunning(runtimeDir) : error);
    });
    server.listen(name, () => {
      server.unref();
      resolve({ release: () => closeServer(server) });
    });
  });
}

function alreadyRunning(runtimeDir: string): ControlError {
  return new ControlError(
    'EEXIST',
    `another ringdisk daemon is running on ${runtimeDir}: stop it first, or give this one its ` +
      'own directory with --runtime-dir',
  );
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()));
}
