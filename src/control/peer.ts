// SPDX-License-Identifier: Apache-2.0
// Who may speak to the daemon: root, and the user it runs as. The socket's mode (0600) says so too,
// but a mode can be changed by mistake; the kernel's word on who has connected cannot.
import type { Socket } from 'node:net';
import { native } from '../datapath/binding.ts';

export interface Peer {
  pid: number;
  uid: number;
}

/** Throws when the kernel does not say: then nobody is let in. */
export function peerOf(socket: Socket): Peer {
  // Node has no public way to a socket's descriptor; this one has been there since its beginning.
  const { fd = -1 } = (socket as { _handle?: { fd?: number } | null })._handle ?? {};
  return native.peerCredentials(fd);
}

export function isWelcome({ uid }: Peer, ownUid = process.geteuid?.()): boolean {
  return uid === 0 || uid === ownUid;
}
