// SPDX-License-Identifier: Apache-2.0
// "nbd-listen" and "nbd-connect": NBD over the network, by a process beside the daemon.
import { type Command, InvalidArgumentError } from 'commander';
import type { Logger } from '../log.ts';
import { UsageError } from './exit_code.ts';
import { collect } from './repeated.ts';

/** IANA's, of NBD. */
const PORT = 10809;
/** An export's socket takes no more, either. */
const CONNECTIONS_MAX = 32;

interface CommonOptions {
  certificates?: string;
  clientCertificate: boolean;
  connections: number;
}

interface ListenOptions extends CommonOptions {
  to: string;
  address?: string;
  port: number;
  client: string[];
}

interface ConnectOptions extends CommonOptions {
  socket?: string;
  serverName?: string;
}

export function addNbdListen(program: Command): void {
  const command = program
    .command('nbd-listen')
    .description('let NBD clients of other hosts use what is exported on a socket, over TLS')
    .requiredOption('--to <socket>', "the exports' UNIX socket")
    .option('--address <address>', 'to listen on (default: all of this host)')
    .option('--port <number>', 'to listen on', port, PORT)
    .option('--client <name>', 'let in certificates of this common name only; repeat', collect, [])
    .option('--no-client-certificate', 'let in whoever reaches the port');
  addCommon(command, 'ca-cert.pem, server-cert.pem and server-key.pem')
    .addHelpText(
      'after',
      '\nClients must begin TLS 1.3 and show a certificate of the authority in ca-cert.pem. It\n' +
        'needs no privilege: run it as a user of its own, whom the socket lets in (export add\n' +
        '--group).\n\n' +
        'Example:\n' +
        '  ringdisk nbd-listen --to /run/ringdisk-nbd/network.sock --certificates /etc/tls\n' +
        "  nbdcopy 'nbds://thishost/backup?tls-certificates=/etc/pki/nbd' backup.img",
    )
    .action(listen);
}

export function addNbdConnect(program: Command): void {
  const command = program
    .command('nbd-connect')
    .description('let NBD clients of this host use a server of another host, over TLS')
    .argument('<host[:port]>', `where the server is (port ${PORT} if none is given)`)
    .option('--socket <path>', 'of the UNIX socket to make (default: the one that systemd passes)')
    .option('--server-name <name>', "of the server's certificate (default: the host)")
    .option('--no-client-certificate', 'show no certificate');
  addCommon(command, 'ca-cert.pem, client-cert.pem and client-key.pem')
    .addHelpText(
      'after',
      '\nThe server must be of the authority in ca-cert.pem and have the name that was\n' +
        'asked for.\n\n' +
        'Example:\n' +
        '  ringdisk nbd-connect otherhost --socket /run/user/1000/other.sock --certificates pki\n' +
        "  nbdinfo 'nbd+unix:///backup?socket=/run/user/1000/other.sock'",
    )
    .action(connect);
}

function addCommon(command: Command, files: string): Command {
  return command
    .option(
      '--certificates <folder>',
      `with ${files}, and ca-crl.pem if there are revoked ones (default: systemd's credentials)`,
    )
    .option('--connections <number>', 'clients at a time', connections, CONNECTIONS_MAX);
}

async function listen(given: ListenOptions): Promise<void> {
  const { to, address, port, client, clientCertificate, connections } = given;
  if (!clientCertificate && client.length > 0) {
    throw new UsageError('--client needs certificates: leave --no-client-certificate out');
  }
  const certificates = folderOf(given);
  const { listenForNbd } = await import('../nbd_tls/listen.ts');
  const options = { to, certificates, address, port, clients: client, clientCertificate };
  await run(async (log) => {
    const listening = await listenForNbd({ ...options, connectionsMax: connections }, log);
    log.info({ ...listening.address, to }, 'listening');
    if (!clientCertificate) log.warn({}, 'no certificate is asked of clients: anybody is let in');
    return listening;
  });
}

async function connect(remote: string, given: ConnectOptions): Promise<void> {
  const { serverName, clientCertificate, connections } = given;
  const certificates = folderOf(given);
  const { host, port } = parseRemote(remote);
  const socket = given.socket ?? passedSocket();
  const { connectByTls } = await import('../nbd_tls/connect.ts');
  const options = { host, port, serverName, socket, certificates, clientCertificate };
  await run(async (log) => {
    const connecting = await connectByTls({ ...options, connectionsMax: connections }, log);
    log.info({ socket, host, port }, 'listening');
    return connecting;
  });
}

/** Until SIGTERM or SIGINT. */
async function run(start: (log: Logger) => Promise<{ close(): Promise<void> }>): Promise<void> {
  const { createLogger } = await import('../log.ts');
  const log = createLogger({ level: 'info' });
  const ended = new Promise<NodeJS.Signals>((resolve) => {
    process.once('SIGTERM', resolve).once('SIGINT', resolve);
  });
  const running = await start(log);
  if (process.geteuid?.() === 0) log.warn({}, 'this needs no privilege, and runs as root');
  const signal = await ended;
  await running.close();
  log.info({ signal }, 'ended');
}

function folderOf({ certificates = process.env['CREDENTIALS_DIRECTORY'] }: CommonOptions): string {
  if (certificates) return certificates;
  throw new UsageError('name the folder of the certificates with --certificates');
}

/** As systemd passes it: sd_listen_fds(3). */
function passedSocket(): { fd: number } {
  const { LISTEN_PID, LISTEN_FDS } = process.env;
  if (LISTEN_PID === String(process.pid) && LISTEN_FDS === '1') return { fd: 3 };
  throw new UsageError('name the UNIX socket with --socket; systemd has passed none');
}

/** "host", "host:10809", "::1", "[::1]:10809" */
export function parseRemote(remote: string): { host: string; port: number } {
  const [, bracketed, plain, digits] =
    /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d+))?$/.exec(remote) ?? [];
  const host = bracketed ?? plain ?? (/^[0-9A-Fa-f:.]+$/.test(remote) ? remote : undefined);
  if (host === undefined) throw new UsageError(`${JSON.stringify(remote)} is no host[:port]`);
  return { host, port: digits === undefined ? PORT : port(digits) };
}

function port(text: string): number {
  return within(text, 0, 65535, 'a port');
}

function connections(text: string): number {
  return within(text, 1, 1024, 'a number of connections');
}

function within(text: string, least: number, most: number, what: string): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= least && value <= most) return value;
  throw new InvalidArgumentError(`${what} is ${least} to ${most}`);
}
