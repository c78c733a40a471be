// SPDX-License-Identifier: Apache-2.0
// From a UNIX socket to an NBD server elsewhere, over TLS: its certificate and name are checked.
// For clients that have no TLS of their own.
import { connect, createServer, isIP, type Server, type Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';
import type { Logger } from '../log.ts';
import { listenUnseen, removeAbandoned } from '../unix_socket.ts';
import { loadCertificates } from './certificates.ts';
import { Forwarder, type Joined, KEEP_ALIVE_MS, type Life, whenDone } from './forwarder.ts';
import { greet, requestTls } from './starttls.ts';

export interface ConnectOptions {
  readonly host: string;
  readonly port: number;
  /** That its certificate must have; the host's otherwise. */
  readonly serverName?: string | undefined;
  /** Where we listen: a path, or the descriptor of a socket that listens already. */
  readonly socket: string | { fd: number };
  /** The certificates' folder. */
  readonly certificates: string;
  /** Otherwise we show none of our own. */
  readonly clientCertificate: boolean;
  readonly connectionsMax: number;
}

/** Throws CERTIFICATES_INVALID, or an Error that says why it cannot listen. */
export async function connectByTls(
  options: ConnectOptions,
  log: Logger,
): Promise<{ close(): Promise<void> }> {
  await loadCertificates(options.certificates, 'client', options.clientCertificate);
  const forwarder = new Forwarder(
    (socket, life) => reach(socket, life, options),
    log,
    options.connectionsMax,
  );
  const server = createServer({ allowHalfOpen: true }, (socket) => void forwarder.accept(socket));
  await listening(server, options.socket);
  server.on('error', (error) => log.error({ err: error }, 'cannot accept connections'));
  return { close: () => forwarder.close(server) };
}

async function listening(server: Server, where: ConnectOptions['socket']): Promise<void> {
  const shown = typeof where === 'string' ? where : `descriptor ${where.fd}`;
  try {
    if (typeof where === 'string') await removeAbandoned(where);
    await listenUnseen(server, typeof where === 'string' ? { path: where } : where);
  } catch (error) {
    const { message } = error as Error;
    throw new Error(`cannot listen on ${shown}: ${message}`, { cause: error });
  }
}

async function reach(client: Socket, life: Life, options: ConnectOptions): Promise<Joined> {
  const { host, port, certificates, clientCertificate } = options;
  const secure = await loadCertificates(certificates, 'client', clientCertificate);
  const flags = await greet(client);
  try {
    const plain = life.own(connect({ host, port, allowHalfOpen: true, noDelay: true }));
    plain.setKeepAlive(true, KEEP_ALIVE_MS);
    await whenDone(plain, 'connect');
    await requestTls(plain, flags);
    const tls = { ...secure, ...expected(options), socket: plain, rejectUnauthorized: true };
    const server = life.own(connectTls(tls), plain);
    await whenDone(server, 'secureConnect');
    return { client, server };
  } catch (error) {
    throw new Error(`no TLS with ${host}, port ${port}: ${(error as Error).message}`);
  }
}

/** Whose name is checked. An address is never told to a server, which could make nothing of it. */
function expected({ host, serverName = host }: ConnectOptions): ConnectionOptions {
  return isIP(serverName) ? { host: serverName } : { host: serverName, servername: serverName };
}
