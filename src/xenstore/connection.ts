// SPDX-License-Identifier: Apache-2.0
// The client of a real xenstored. It outlives its link: when that is lost, what was under way fails
// with ECONNRESET, and a new session is opened and given every watch again.
import { stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type LinkLoss,
  type Permission,
  type Watch,
  type XenstoreClient,
  XenstoreError,
  type XenstoreRequests,
} from './client.ts';
import { type OpenLink, openDeviceLink, openSocketLink } from './link.ts';
import { checkWatchPath, domainPath } from './paths.ts';
import { Session } from './session.ts';
import {
  askDomainPath,
  askTransaction,
  endTransaction,
  registerWatch,
  unregisterWatch,
} from './session_calls.ts';
import { SessionSlot } from './session_slot.ts';
import {
  type OpenTransaction,
  runTransaction,
  TransactionGate,
  transactionIsOver,
} from './transaction.ts';
import { WatchQueue } from './watch_queue.ts';
import { WireRequests } from './wire_requests.ts';

export interface ConnectionOptions {
  /** How long a request waits for a lost connection to come back, and opening for an answer. */
  waitMs?: number;
  /** The pause before the first attempt to reconnect; it doubles up to `reconnectMsMax`. */
  reconnectMsMin?: number;
  reconnectMsMax?: number;
}

const defaults: Required<ConnectionOptions> = {
  waitMs: 10_000,
  reconnectMsMin: 100,
  reconnectMsMax: 5000,
};

interface RegisteredWatch {
  readonly path: string;
  readonly queue: WatchQueue;
}

export class XenstoreConnection implements XenstoreClient {
  readonly #openLink: OpenLink;
  readonly #options: Required<ConnectionOptions>;
  readonly #requests: WireRequests;
  readonly #watches = new Map<string, RegisteredWatch>();
  readonly #sessions = new SessionSlot();
  readonly #gate = new TransactionGate();
  readonly #closing = new AbortController();
  readonly #linkListeners: ((loss: LinkLoss | undefined) => void)[] = [];
  #lost: LinkLoss | undefined;
  #nextToken = 1;

  private constructor(openLink: OpenLink, options: ConnectionOptions) {
    this.#openLink = openLink;
    this.#options = { ...defaults, ...options };
    this.#requests = new WireRequests(async (type, payload, what) => {
      const session = await this.#ready();
      return session.request({ type, transaction: 0, payload, what });
    });
  }

  /** Throws when there is no xenstored that answers. */
  static async open(
    openLink: OpenLink,
    options: ConnectionOptions = {},
  ): Promise<XenstoreConnection> {
    const connection = new XenstoreConnection(openLink, options);
    await connection.#connect();
    return connection;
  }

  get lost(): LinkLoss | undefined {
    return this.#lost;
  }

  onLink(listener: (loss: LinkLoss | undefined) => void): void {
    this.#linkListeners.push(listener);
  }

  read(path: string): Promise<string | undefined> {
    return this.#requests.read(path);
  }

  directory(path: string): Promise<string[] | undefined> {
    return this.#requests.directory(path);
  }

  write(path: string, value: string): Promise<void> {
    return this.#requests.write(path, value);
  }

  mkdir(path: string): Promise<void> {
    return this.#requests.mkdir(path);
  }

  remove(path: string): Promise<void> {
    return this.#requests.remove(path);
  }

  getPermissions(path: string): Promise<Permission[]> {
    return this.#requests.getPermissions(path);
  }

  setPermissions(path: string, permissions: Permission[]): Promise<void> {
    return this.#requests.setPermissions(path, permissions);
  }

  async watch(path: string, onChange: (changedPath: string) => void): Promise<Watch> {
    checkWatchPath(path);
    const session = await this.#ready();
    const token = String(this.#nextToken++);
    const queue = new WatchQueue(path, onChange);
    this.#watches.set(token, { path, queue });
    try {
      await registerWatch(session, path, token);
    } catch (error) {
      this.#watches.delete(token);
      queue.close();
      throw error;
    }
    return { path, remove: () => this.#removeWatch(token) };
  }

  transaction<T>(body: (requests: XenstoreRequests) => Promise<T>): Promise<T> {
    return runTransaction(this.#gate, () => this.#startTransaction(), body);
  }

  async domainPath(domid: number): Promise<string> {
    // Checks the number: xenstored would answer nonsense for some that are out of range.
    domainPath(domid);
    return askDomainPath(await this.#ready(), domid);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    const reason = closedError();
    for (const { queue } of this.#watches.values()) queue.close();
    this.#watches.clear();
    const session = this.#sessions.current;
    this.#sessions.clear();
    this.#sessions.fail(reason);
    await session?.close(reason);
  }

  /** The session, waited for as long as a request may wait. */
  async #ready(): Promise<Session> {
    if (this.#closing.signal.aborted) throw closedError();
    const { waitMs } = this.#options;
    return this.#sessions.current ?? this.#sessions.next(waitMs, noAnswer(waitMs));
  }

  /** Opens a session, makes sure that somebody answers, and gives it every watch. */
  async #connect(): Promise<void> {
    const session = await Session.open(this.#openLink, {
      onWatchEvent: (path, token) => this.#watches.get(token)?.queue.add(path),
      onLost: (error) => {
        if (this.#sessions.current === session) this.#onLost(error);
      },
    });
    const { waitMs } = this.#options;
    const timer = setTimeout(() => void session.close(noAnswer(waitMs)), waitMs);
    try {
      await askDomainPath(session, 0);
      await this.#restoreWatches(session);
      if (session.lostTo) throw session.lostTo;
      this.#closing.signal.throwIfAborted();
    } catch (error) {
      await session.close(error instanceof XenstoreError ? error : closedError());
      throw error;
    } finally {
      clearTimeout(timer);
    }
    this.#sessions.set(session);
  }

  async #restoreWatches(session: Session): Promise<void> {
    const watches = [...this.#watches];
    await Promise.all(watches.map(([token, { path }]) => registerWatch(session, path, token)));
    for (const [token, { path }] of watches) {
      // Removed meanwhile, when there was no session to tell.
      if (!this.#watches.has(token)) await unregisterWatch(session, path, token);
    }
  }

  #onLost(error: Error): void {
    this.#sessions.clear();
    this.#tellLink({ since: new Date(), reason: error.message });
    void this.#reconnect();
  }

  async #reconnect(): Promise<void> {
    const { signal } = this.#closing;
    let pauseMs = this.#options.reconnectMsMin;
    while (!(await this.#reconnectAfter(pauseMs, signal))) {
      if (signal.aborted) return;
      pauseMs = Math.min(pauseMs * 2, this.#options.reconnectMsMax);
    }
    this.#tellLink(undefined);
  }

  #tellLink(loss: LinkLoss | undefined): void {
    this.#lost = loss;
    for (const listener of this.#linkListeners) listener(loss);
  }

  async #reconnectAfter(pauseMs: number, signal: AbortSignal): Promise<boolean> {
    try {
      await sleep(pauseMs, undefined, { signal });
      await this.#connect();
      return true;
    } catch {
      // Whatever the reason is, trying again later is all that can be done about it.
      return false;
    }
  }

  async #removeWatch(token: string): Promise<void> {
    const watch = this.#watches.get(token);
    if (!watch) return;
    this.#watches.delete(token);
    watch.queue.close();
    const session = this.#sessions.current;
    if (!session) return;
    try {
      await unregisterWatch(session, watch.path, token);
    } catch (error) {
      // A session that is over has no watches.
      if (!session.lostTo) throw error;
    }
  }

  async #startTransaction(): Promise<OpenTransaction> {
    const session = await this.#ready();
    const id = await askTransaction(session);
    let over = false;
    return {
      requests: new WireRequests(async (type, payload, what) => {
        if (over) throw transactionIsOver();
        return session.request({ type, transaction: id, payload, what });
      }),
      end: async (commit) => {
        over = true;
        await endTransaction(session, id, commit);
      },
    };
  }
}

function closedError(): XenstoreError {
  return new XenstoreError('ECANCELED', 'the xenstore connection is closed');
}

function noAnswer(waitMs: number): XenstoreError {
  return new XenstoreError('ETIMEDOUT', `xenstored has not answered for ${waitMs / 1000} s`);
}

/** xenstored's own socket first: it is there only where xenstored runs. */
const usualPlaces = ['/run/xenstored/socket', '/var/run/xenstored/socket', '/dev/xen/xenbus'];

/** Connects to xenstored at `path`, a socket or the xenbus device, or where it usually is. */
export async function openXenstore(
  options: ConnectionOptions & { path?: string } = {},
): Promise<XenstoreConnection> {
  const places = options.path === undefined ? usualPlaces : [options.path];
  for (const place of places) {
    const found = await stat(place).catch(() => undefined);
    if (!found) continue;
    try {
      if (!found.isSocket() && !found.isCharacterDevice()) {
        throw new XenstoreError('EINVAL', 'it is neither a socket nor a character device');
      }
      const openLink = found.isSocket() ? openSocketLink : openDeviceLink;
      return await XenstoreConnection.open((handlers) => openLink(place, handlers), options);
    } catch (error) {
      const { code = 'EIO', message } = error as NodeJS.ErrnoException;
      throw new XenstoreError(code, `cannot use xenstore at ${place}: ${message}`);
    }
  }
  throw new XenstoreError(
    'ENOENT',
    `there is no xenstore at ${places.join(' or ')}: is this a Xen domain, and does xenstored run?`,
  );
}
