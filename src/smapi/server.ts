// SPDX-License-Identifier: Apache-2.0
// Where the plugin's executables come with their calls: one call a connection, which says all it
// has to say and then listens. Its other end is plugin/ringdisk_smapi.py.
import { createServer, type Socket } from 'node:net';
import { isWelcome, peerOf } from '../control/peer.ts';
import type { Logger } from '../log.ts';
import { listenUnseen, removeAbandoned } from '../unix_socket.ts';
import { LimitedLog } from '../vbd/rate_limit.ts';

/** XAPI calls as often at a time as it has disks to plug. */
const CONNECTIONS_MAX = 512;
const CALL_BYTES_MAX = 1024 * 1024;
/** All of a call is there at once, since its caller has read it before. */
const CALL_MS_MAX = 10_000;
/** A caller that hears nothing for a minute gives up; so it hears that there is work going on. */
const SIGN_OF_LIFE_MS = 5000;

/** What was run, in which style, and with what. */
export interface RawCall {
  readonly script: string;
  readonly style: 'json' | 'argv';
  readonly text: string;
}

/** Of the executable: its exit status and its standard output. */
export interface Answer {
  readonly status: 0 | 1;
  readonly text: string;
}

export interface SmapiServer {
  /** Nobody is let in any more; calls that are under way are still answered. */
  close(): Promise<void>;
}

export async function serveSmapi(
  path: string,
  answer: (call: RawCall) => Promise<Answer>,
  log: Logger,
): Promise<SmapiServer> {
  const limited = new LimitedLog(log);
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => socket.destroy());
    const refusal = whyNot(socket);
    if (refusal === undefined) void serveOne(socket, answer);
    else {
      limited.warn({ reason: refusal }, 'a call of SMAPI is refused');
      socket.destroy();
    }
  });
  server.maxConnections = CONNECTIONS_MAX;
  await removeAbandoned(path);
  await listenUnseen(server, { path, backlog: CONNECTIONS_MAX });
  server.on('error', (error) => log.error({ err: error }, 'the socket of SMAPI failed'));
  return { close: () => new Promise((resolve) => server.close(() => resolve())) };
}

function whyNot(socket: Socket): string | undefined {
  try {
    const peer = peerOf(socket);
    return isWelcome(peer) ? undefined : `user ${peer.uid} may not control volumes`;
  } catch (error) {
    return (error as Error).message;
  }
}

async function serveOne(socket: Socket, answer: (call: RawCall) => Promise<Answer>): Promise<void> {
  let beat: NodeJS.Timeout | undefined;
  try {
    const call = parseCall(await readAll(socket));
    beat = setInterval(() => socket.write('.'), SIGN_OF_LIFE_MS);
    const { status, text } = await answer(call);
    socket.end(`${status} ${Buffer.byteLength(text)}\n${text}`);
  } catch {
    // Not one of our executables, or one that has gone.
    socket.destroy();
  } finally {
    clearInterval(beat);
  }
}

async function readAll(socket: Socket): Promise<string> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  const deadline = setTimeout(() => socket.destroy(new Error('too slow')), CALL_MS_MAX);
  try {
    for await (const piece of socket.iterator({ destroyOnReturn: false })) {
      pieces.push(piece);
      bytes += piece.length;
      if (bytes > CALL_BYTES_MAX) throw new RangeError('the call is too long');
    }
  } finally {
    clearTimeout(deadline);
  }
  return Buffer.concat(pieces).toString('utf8');
}

function parseCall(whole: string): RawCall {
  const [, script, style, text] = /^smapi 1\n([^\n]+)\n(json|argv)\n(.*)$/s.exec(whole) ?? [];
  if (script === undefined || text === undefined) throw new SyntaxError('no call');
  return { script, style: style === 'json' ? 'json' : 'argv', text };
}
