// SPDX-License-Identifier: Apache-2.0
// Serves a MemoryStore on a UNIX socket with the real wire protocol, so that other processes can be
// frontends on the loopback platform, and so that the real client is tested where there is no Xen.
// Clients are trusted as far as the socket's mode (0600) reaches: there are no quotas.
import { createServer, type Socket } from 'node:net';
import { listenUnseen, removeAbandoned } from '../unix_socket.ts';
import { XenstoreError } from './client.ts';
import type { MemoryStore } from './memory_store.ts';
import { ServerRequests } from './server_requests.ts';
import { WaitingPaths } from './watch_queue.ts';
import { encodeMessage, encodeStrings, type Message, MessageDecoder, messageType } from './wire.ts';

export interface ServeOptions {
  /** Where to listen. A socket there that nobody serves any more is replaced. */
  path: string;
  /** Whose connections these are; 0 may do everything. */
  domid: number;
}

export interface XenstoreServer {
  /** Ends every connection and removes the socket. */
  close(): Promise<void>;
}

/** Rejects with EADDRINUSE where somebody serves that socket. */
export async function serveXenstore(
  store: MemoryStore,
  options: ServeOptions,
): Promise<XenstoreServer> {
  const connections = new Set<Socket>();
  const server = createServer((socket) => {
    connections.add(socket);
    socket.once('close', () => connections.delete(socket));
    new ServerConnection(store, options.domid, socket);
  });
  await removeAbandoned(options.path);
  await listenUnseen(server, { path: options.path });
  return {
    close: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of connections) socket.destroy();
      await closed;
    },
  };
}

/** The paths that wait to be told for one watch of this connection. */
interface WatchState {
  readonly token: string;
  readonly waiting: WaitingPaths;
}

class ServerConnection {
  readonly #socket: Socket;
  readonly #decoder = new MessageDecoder();
  readonly #requests: ServerRequests;
  readonly #watches = new Map<string, WatchState>();
  #eventsScheduled = false;

  constructor(store: MemoryStore, domid: number, socket: Socket) {
    this.#socket = socket;
    const session = store.connect(domid);
    this.#requests = new ServerRequests(session, {
      watch: (path, token) => this.#watch(path, token),
      unwatch: (path, token) => void this.#watches.delete(`${path}\0${token}`),
    });
    socket.on('data', (chunk) => this.#receive(chunk));
    socket.on('drain', () => this.#drained());
    // A client that vanishes is nothing to report: 'close' follows.
    socket.on('error', () => undefined);
    socket.once('close', () => session.close());
  }

  #receive(chunk: Buffer): void {
    let messages: Message[];
    try {
      messages = this.#decoder.push(chunk);
    } catch {
      // As xenstored does: there is no way to answer, and no way to find the next message.
      this.#socket.destroy();
      return;
    }
    for (const message of messages) this.#answer(message);
    // A client that does not read its answers is not read either.
    if (this.#socket.writableNeedDrain) this.#socket.pause();
    this.#scheduleEvents();
  }

  #answer(message: Message): void {
    try {
      this.#send({ ...message, payload: this.#requests.answer(message) });
    } catch (error) {
      if (!(error instanceof XenstoreError)) throw error;
      const payload = encodeStrings(wireCode(error.code));
      this.#send({ ...message, type: messageType.error, payload });
    }
  }

  #send(message: Message): void {
    this.#socket.write(encodeMessage(message));
  }

  /** The callback for a new watch; events wait here until the client takes them. */
  #watch(path: string, token: string): (changedPath: string) => void {
    const state: WatchState = { token, waiting: new WaitingPaths(path) };
    this.#watches.set(`${path}\0${token}`, state);
    return (changedPath) => {
      state.waiting.add(changedPath);
      this.#scheduleEvents();
    };
  }

  #drained(): void {
    this.#socket.resume();
    this.#scheduleEvents();
  }

  #scheduleEvents(): void {
    if (this.#eventsScheduled) return;
    this.#eventsScheduled = true;
    setImmediate(() => {
      this.#eventsScheduled = false;
      for (const state of this.#watches.values()) this.#sendEvents(state);
    });
  }

  #sendEvents({ token, waiting }: WatchState): void {
    while (!this.#socket.writableNeedDrain) {
      const path = waiting.take();
      if (path === undefined) return;
      const payload = encodeStrings(path, token);
      this.#send({ type: messageType.watchEvent, requestId: 0, transaction: 0, payload });
    }
  }
}

/** The errno names the protocol knows; everything else is told as EINVAL. */
const wireCodes = new Set([
  'EINVAL',
  'EACCES',
  'EEXIST',
  'ENOENT',
  'EIO',
  'ENOSYS',
  'EAGAIN',
  'E2BIG',
  'EPERM',
  'ENOSPC',
]);

function wireCode(code: string): string {
  return wireCodes.has(code) ? code : 'EINVAL';
}
