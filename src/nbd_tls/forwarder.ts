// SPDX-License-Identifier: Apache-2.0
// Clients that come, each of which is joined to a server and forwarded until one of the two ends.
// What strangers may cause is bounded: time, connections, memory, log lines.
import type { Server, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Logger } from '../log.ts';
import { LimitedLog } from '../vbd/rate_limit.ts';
import { relay } from './streams.ts';

/** From the connection to the first byte that is forwarded. */
const HANDSHAKE_MS = 10_000;
/** Beyond it the oldest that is not through yet is let go of. */
const HANDSHAKES_MAX = 64;
/** Who has vanished is noticed then. */
export const KEEP_ALIVE_MS = 30_000;

export interface Joined {
  readonly client: Duplex;
  readonly server: Duplex;
  /** The client's, of its certificate. */
  readonly name?: string | undefined;
}

/** Makes the two ends ready; every stream it opens is of that life. */
export type Join = (client: Socket, life: Life) => Promise<Joined>;

/** Of a stream that is joined to another both ways. */
const LISTENERS_MAX = 20;

/** The streams of one connection, which end together. */
export class Life {
  readonly #streams = new Set<Duplex>();
  #over: Error | undefined;

  /** Why it is over. */
  get over(): Error | undefined {
    return this.#over;
  }

  /**
   * Errors are for those who read and write. `below`: the stream that this one has taken over,
   * which it ends itself: Node crashes where somebody else does that at the same time.
   */
  own<T extends Duplex>(stream: T, below?: Duplex): T {
    stream.on('error', () => {}).setMaxListeners(LISTENERS_MAX);
    if (below) this.#streams.delete(below);
    this.#streams.add(stream);
    if (this.#over) stream.destroy();
    return stream;
  }

  end(reason: string): void {
    this.#over ??= new Error(reason);
    for (const stream of this.#streams) stream.destroy();
  }
}

/** Resolves at `event`. Rejects with the stream's error, or because it ended. */
export function whenDone(stream: Duplex, event: string): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.once(event, resolve).once('error', reject);
    stream.once('close', () => reject(new Error('the connection ended')));
  });
}

export class Forwarder {
  readonly #join: Join;
  readonly #log: LimitedLog;
  readonly #connectionsMax: number;
  /** Oldest first. */
  readonly #joining = new Set<Life>();
  readonly #joined = new Set<Life>();

  constructor(join: Join, log: Logger, connectionsMax: number) {
    this.#join = join;
    this.#log = new LimitedLog(log);
    this.#connectionsMax = connectionsMax;
  }

  /** Owns the connection from now on. */
  async accept(socket: Socket): Promise<void> {
    const peer = socket.remoteAddress;
    const life = new Life();
    try {
      const { name, client, server } = await this.#handshake(socket, life);
      const who = { ...(peer && { peer }), ...(name !== undefined && { name }) };
      this.#log.info(who, 'client connected');
      const error = await relay(client, server).then(
        () => undefined,
        (error: NodeJS.ErrnoException) => error.code ?? error.message,
      );
      this.#log.info({ ...who, ...(error && { error }) }, 'client left');
    } catch (error) {
      const { message } = life.over ?? (error as Error);
      this.#log.warn({ ...(peer && { peer }), reason: message }, 'client refused');
    } finally {
      this.#joined.delete(life);
      life.end('it is over');
    }
  }

  /** Ends the server, whose UNIX socket Node removes, and all connections. */
  async close(server: Server): Promise<void> {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const life of [...this.#joining, ...this.#joined]) life.end('we end');
    await closed;
  }

  async #handshake(socket: Socket, life: Life): Promise<Joined> {
    life.own(socket);
    if (this.#joining.size >= HANDSHAKES_MAX) {
      const [oldest] = this.#joining;
      oldest?.end(`${HANDSHAKES_MAX} others came before it was through`);
    }
    this.#joining.add(life);
    const seconds = HANDSHAKE_MS / 1000;
    const late = () => life.end(`its handshake took more than ${seconds} s`);
    const timer = setTimeout(late, HANDSHAKE_MS);
    try {
      const joined = await this.#join(socket, life);
      if (this.#joined.size >= this.#connectionsMax) {
        throw new Error(`${this.#connectionsMax} clients are connected already`);
      }
      this.#joined.add(life);
      return joined;
    } finally {
      clearTimeout(timer);
      this.#joining.delete(life);
    }
  }
}
