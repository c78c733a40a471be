// SPDX-License-Identifier: Apache-2.0
// The daemon's end of the control socket. Only root is let in (peer.ts), yet it bounds everything:
// a confused script must not be able to hurt the guests' disks.
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import * as v from 'valibot';
import type { Logger } from '../log.ts';
import { listenUnseen, SOCKET_PATH_BYTES_MAX } from '../unix_socket.ts';
import { LimitedLog } from '../vbd/rate_limit.ts';
import { ControlError } from './errors.ts';
import { LineSplitter, REQUEST_BYTES_MAX } from './framing.ts';
import type { HandlersOf, MethodTable } from './method_table.ts';
import { isWelcome, type Peer, peerOf } from './peer.ts';
import { METHODS, PROTOCOL, RequestSchema } from './protocol.ts';

export const CONNECTIONS_MAX = 32;
/** Connections of those who may not speak to us, while they are told so. */
const STRANGERS_MAX = 8;
const STRANGER_MS_MAX = 1000;
/** Requests of one connection that wait for their turn; one runs at a time. */
export const QUEUED_REQUESTS_MAX = 32;

export type Handlers = HandlersOf<typeof METHODS>;

export interface ControlServer {
  readonly path: string;
  close(): Promise<void>;
}

/** The daemon's. */
export function serveControl(
  path: string,
  handlers: Handlers,
  log: Logger,
): Promise<ControlServer> {
  return serveMethods(path, METHODS, handlers, log);
}

/** Listens on `path`. The caller holds its folder's lock, so a socket that is there is dead. */
export async function serveMethods<T extends MethodTable>(
  path: string,
  methods: T,
  handlers: HandlersOf<T>,
  log: Logger,
): Promise<ControlServer> {
  // The table ties each method's schema to its handler; the compiler cannot follow the index.
  const service = { methods, handlers: handlers as AnyHandlers };
  if (Buffer.byteLength(path) > SOCKET_PATH_BYTES_MAX) {
    throw new ControlError(
      'ENAMETOOLONG',
      `${path}: too long for a socket, use a shorter --runtime-dir`,
    );
  }
  rmSync(path, { force: true });
  const sockets = new Set<Socket>();
  const strangers = new Strangers(log);
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => socket.destroy());
    const refusal = whyNot(socket) ?? whyFull(sockets.size);
    if (refusal) strangers.turnAway(socket, refusal);
    else new ControlConnection(socket, service, log);
  });
  server.maxConnections = CONNECTIONS_MAX + STRANGERS_MAX;
  await listenUnseen(server, { path, backlog: CONNECTIONS_MAX });
  server.on('error', (error) => log.error({ err: error }, 'control socket failed'));
  return {
    path,
    close: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

interface Refusal {
  code: string;
  message: string;
  peer?: Peer;
}

/** Connections that are only told so count as well. */
function whyFull(connections: number): Refusal | undefined {
  if (connections <= CONNECTIONS_MAX) return undefined;
  const message =
    `${CONNECTIONS_MAX} connections are open, and no more are served: end some of the commands ` +
    'that ask the daemon, such as ringdisk stats --watch';
  return { code: 'EBUSY', message };
}

/** Undefined for those who may come in. */
function whyNot(socket: Socket): Refusal | undefined {
  try {
    const peer = peerOf(socket);
    if (isWelcome(peer)) return undefined;
    const message = `user ${peer.uid} may not control the daemon: root may, and its own user`;
    return { code: 'EACCES', message, peer };
  } catch (error) {
    return { code: 'EACCES', message: (error as Error).message };
  }
}

/** They are told why; but they may come in crowds, and root must find a place. */
class Strangers {
  readonly #log: LimitedLog;
  #present = 0;

  constructor(log: Logger) {
    this.#log = new LimitedLog(log);
  }

  turnAway(socket: Socket, { code, message, peer }: Refusal): void {
    this.#log.warn({ ...peer, reason: message }, 'control connection refused');
    if (this.#present >= STRANGERS_MAX) {
      socket.destroy();
      return;
    }
    this.#present++;
    socket.on('close', () => this.#present--);
    const error = { code, message };
    socket.end(`${JSON.stringify({ protocol: PROTOCOL, id: null, error })}\n`);
    // Closed before it has sent its request, it would learn of that instead of the reason.
    socket.resume();
    setTimeout(() => socket.destroy(), STRANGER_MS_MAX).unref();
  }
}

type AnyHandlers = Record<string, (params: unknown) => Promise<unknown>>;

interface Service {
  methods: MethodTable;
  handlers: AnyHandlers;
}

/** One client: its requests are answered in their order, one at a time. */
class ControlConnection {
  readonly #socket: Socket;
  readonly #service: Service;
  readonly #log: Logger;
  readonly #lines = new LineSplitter(REQUEST_BYTES_MAX);
  readonly #queue: string[] = [];
  #busy = false;

  constructor(socket: Socket, service: Service, log: Logger) {
    this.#socket = socket;
    this.#service = service;
    this.#log = log;
    socket.on('data', (chunk: Buffer) => this.#onData(chunk));
  }

  #onData(chunk: Buffer): void {
    try {
      this.#queue.push(...this.#lines.push(chunk));
      if (this.#queue.length > QUEUED_REQUESTS_MAX) {
        throw new RangeError(`more than ${QUEUED_REQUESTS_MAX} requests wait for their answer`);
      }
    } catch (error) {
      this.#log.warn({ err: error }, 'control connection closed');
      this.#socket.destroy();
      return;
    }
    void this.#drain();
  }

  async #drain(): Promise<void> {
    if (this.#busy) return;
    this.#busy = true;
    for (let line = this.#queue.shift(); line !== undefined; line = this.#queue.shift()) {
      const answer = await this.#answer(line);
      if (this.#socket.destroyed) return;
      if (!this.#socket.write(`${JSON.stringify(answer)}\n`)) await this.#untilRead();
    }
    this.#busy = false;
  }

  /** Nothing more is done for a client that does not read its answers. */
  async #untilRead(): Promise<void> {
    const over = new AbortController();
    const { signal } = over;
    // One of the two stays away, and must not be listened for any longer.
    await Promise.race([
      once(this.#socket, 'drain', { signal }),
      once(this.#socket, 'close', { signal }),
    ]).catch(() => {});
    over.abort();
  }

  async #answer(line: string): Promise<object> {
    let id: number | null = null;
    try {
      const request = parseRequest(line);
      id = request.id;
      const result = await this.#call(request.method, request.params);
      return { protocol: PROTOCOL, id, result };
    } catch (error) {
      return { protocol: PROTOCOL, id, error: this.#describe(error) };
    }
  }

  #call(method: string, params: unknown): Promise<unknown> {
    const { methods, handlers } = this.#service;
    const schemas = Object.hasOwn(methods, method) ? methods[method] : undefined;
    const { [method]: handler } = handlers;
    if (!schemas || !handler) {
      const known = Object.keys(methods).join(', ');
      throw new ControlError('ENOSYS', `no method "${method}"; there are ${known}`);
    }
    const checked = v.safeParse(schemas.params, params ?? {});
    if (!checked.success)
      throw new ControlError('EINVAL', `${method}: ${issuesOf(checked.issues)}`);
    return handler(checked.output);
  }

  #describe(error: unknown): { code: string; message: string } {
    const { code, message } = error as { code?: unknown; message?: unknown };
    if (typeof code === 'string' && typeof message === 'string') return { code, message };
    this.#log.error({ err: error }, 'control request failed');
    return { code: 'EIO', message: error instanceof Error ? error.message : String(error) };
  }
}

function parseRequest(line: string): v.InferOutput<typeof RequestSchema> {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw new ControlError('EPROTO', 'the request is not JSON');
  }
  const parsed = v.safeParse(RequestSchema, value);
  if (parsed.success) return parsed.output;
  throw new ControlError(
    'EPROTO',
    `the request is not one of protocol ${PROTOCOL}: ${issuesOf(parsed.issues)}`,
  );
}

function issuesOf(issues: readonly v.BaseIssue<unknown>[]): string {
  return issues.map((issue) => `${v.getDotPath(issue) ?? 'value'}: ${issue.message}`).join('; ');
}
