// SPDX-License-Identifier: Apache-2.0
// Where an NBD export is, in QEMU's spelling ("nbd:unix:/run/nbd.sock:exportname=disk") or as a URI
// ("nbd+unix:///disk?socket=/run/nbd.sock").
import { showValue, TargetSpecError } from '../errors.ts';
import { textBytes } from '../text.ts';
import { SOCKET_PATH_BYTES_MAX } from '../unix_socket.ts';

/** What such targets begin with, up to the first colon. */
export const NBD_WORDS: readonly string[] = ['nbd', 'nbd+unix', 'nbds', 'nbds+unix'];

// What tells one medium from another has room for no more.
const NAME_BYTES_MAX = 256;
const NAME_MARK = ':exportname=';
const THE_WAY = 'write nbd:unix:/path/of/the/socket:exportname=NAME';

/** As parseNbdAddress() has it. */
export function nbdAddress(socket: string, name: string): string {
  return name === '' ? socket : `${socket}${NAME_MARK}${name}`;
}

/** As the native half spells it: the socket, then NAME_MARK and the name where there is one. */
export function parseNbdAddress(params: string, text: string): string {
  const refuse = (what: string) =>
    new TargetSpecError(`The target ${showValue(params)} ${what}; ${THE_WAY}.`);
  const [, word = '', rest = ''] = /^([^:]*):(.*)$/s.exec(text) ?? [];
  if (/^nbds/i.test(word)) {
    throw refuse('asks for NBD with TLS, which takes a forwarder with a UNIX socket in front');
  }
  const { socket, name } = rest.startsWith('//')
    ? parseUri(rest, refuse)
    : parseQemuSpelling(rest, refuse);
  if (!socket.startsWith('/')) throw refuse('names no absolute path of a socket');
  if (textBytes(socket) > SOCKET_PATH_BYTES_MAX) {
    throw refuse(`names a socket by more than ${SOCKET_PATH_BYTES_MAX} bytes`);
  }
  if (socket.includes(NAME_MARK)) throw refuse('has a socket whose name cannot be told from it');
  if (textBytes(name) > NAME_BYTES_MAX) {
    throw refuse(`names an export by more than ${NAME_BYTES_MAX} bytes`);
  }
  return nbdAddress(socket, name);
}

interface Address {
  socket: string;
  name: string;
}
type Refuse = (what: string) => TargetSpecError;

function parseQemuSpelling(rest: string, refuse: Refuse): Address {
  const [, address] = /^unix:(.*)$/is.exec(rest) ?? [];
  if (address === undefined) throw refuse('names no UNIX socket');
  const mark = address.indexOf(NAME_MARK);
  if (mark < 0) return { socket: address, name: '' };
  return { socket: address.slice(0, mark), name: address.slice(mark + NAME_MARK.length) };
}

function parseUri(rest: string, refuse: Refuse): Address {
  const [, host, path = '', query = ''] = /^\/\/([^/?]*)(\/[^?]*)?(?:\?(.*))?$/s.exec(rest) ?? [];
  if (host === undefined) throw refuse('is no URI');
  if (host !== '') throw refuse('names a host, and NBD is reached by a UNIX socket');
  const sockets = query
    .split('&')
    .filter((part) => part !== '')
    .map((part) => {
      if (!part.startsWith('socket=')) throw refuse(`has ${showValue(part)} in its URI`);
      return decoded(part.slice('socket='.length), refuse);
    });
  const [socket] = sockets;
  if (socket === undefined || sockets.length > 1) throw refuse('names no socket in its URI');
  return { socket, name: decoded(path.slice(1), refuse) };
}

function decoded(text: string, refuse: Refuse): string {
  try {
    const plain = decodeURIComponent(text);
    if (!plain.includes('\0')) return plain;
  } catch {
    // Not as a URI has it.
  }
  throw refuse(`has ${showValue(text)} in its URI, which is not encoded as it should be`);
}
