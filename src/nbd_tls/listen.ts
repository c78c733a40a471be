// SPDX-License-Identifier: Apache-2.0
// From the network to an export's UNIX socket: NBD clients that begin TLS and show a certificate.
// Until then nothing is connected to the export.
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type TLSSocket, type TlsOptions } from 'node:tls';
import type { Logger } from '../log.ts';
import { loadCertificates } from './certificates.ts';
import { Forwarder, type Joined, KEEP_ALIVE_MS, type Life, whenDone } from './forwarder.ts';
import { answerGreeting, offerTls } from './starttls.ts';

export interface ListenOptions {
  /** The export's UNIX socket. */
  readonly to: string;
  /** The certificates' folder. */
  readonly certificates: string;
  /** All of the host's, where none is given. */
  readonly address?: string | undefined;
  readonly port: number;
  /** The common names of those who are let in; none: whoever has a certificate. */
  readonly clients: readonly string[];
  /** Otherwise whoever reaches the port is let in. */
  readonly clientCertificate: boolean;
  readonly connectionsMax: number;
}

export interface Listening {
  readonly address: AddressInfo;
  close(): Promise<void>;
}

/** Throws CERTIFICATES_INVALID, or an Error that says why it cannot listen. */
export async function listenForNbd(options: ListenOptions, log: Logger): Promise<Listening> {
  await loadCertificates(options.certificates, 'server', true);
  const forwarder = new Forwarder(
    (socket, life) => letIn(socket, life, options),
    log,
    options.connectionsMax,
  );
  const server = createServer({ noDelay: true }, (socket) => {
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    void forwarder.accept(socket);
  });
  await listening(server, options);
  server.on('error', (error) => log.error({ err: error }, 'cannot accept connections'));
  return { address: server.address() as AddressInfo, close: () => forwarder.close(server) };
}

function listening(server: Server, { address, port }: ListenOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('listening', resolve);
    server.once('error', (error: NodeJS.ErrnoException) => {
      const where = address === undefined ? `port ${port}` : `${address}, port ${port}`;
      reject(new Error(`cannot listen on ${where}: ${error.message}`, { cause: error }));
    });
    server.listen({ port, host: address });
  });
}

async function letIn(socket: Socket, life: Life, options: ListenOptions): Promise<Joined> {
  const { certificates, clientCertificate, to } = options;
  const secure = await loadCertificates(certificates, 'server', true);
  const flags = await offerTls(socket);
  const wanted = { requestCert: clientCertificate, rejectUnauthorized: clientCertificate };
  const client = await acceptTls(socket, life, { ...secure, ...wanted });
  const name = clientCertificate ? nameOf(client, options.clients) : undefined;
  const server = life.own(connect({ path: to, allowHalfOpen: true }));
  try {
    await whenDone(server, 'connect');
    await answerGreeting(server, flags);
  } catch (error) {
    throw new Error(`the export cannot be reached by ${to}: ${(error as Error).message}`);
  }
  return { client, server, name };
}

/**
 * A server for this connection alone: it is what checks a client's certificate, and hands out no
 * ticket by which another connection would do without.
 */
function acceptTls(socket: Socket, life: Life, options: TlsOptions): Promise<TLSSocket> {
  const server = createTlsServer(options);
  return new Promise((resolve, reject) => {
    server.once('secureConnection', (client) => {
      client.allowHalfOpen = true;
      resolve(life.own(client, socket));
    });
    server.once('tlsClientError', ({ message }, { authorizationError }) => {
      reject(new Error(`no TLS with it: ${authorizationError ?? message}`));
    });
    // Why comes after it, where there is a reason.
    socket.once('close', () => setImmediate(() => reject(new Error('the connection ended'))));
    server.emit('connection', socket);
  });
}

/** The common name of its certificate, which has been checked. Throws for who is not to come in. */
function nameOf(client: TLSSocket, allowed: readonly string[]): string {
  const { subject } = client.getPeerCertificate();
  // A certificate may have several, which types do not say.
  const names: unknown = subject?.CN;
  const name = typeof names === 'string' ? names : '';
  if (allowed.length === 0 || allowed.includes(name)) return name;
  throw new Error(`no client of the name ${JSON.stringify(names)} is let in`);
}
