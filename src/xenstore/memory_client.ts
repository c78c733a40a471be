// SPDX-License-Identifier: Apache-2.0
// The XenstoreClient of a MemoryStore: one domain's view. A request takes effect when it is made
// and its promise settles later; watch events arrive in a later turn of the event loop.
import {
  type Permission,
  type Watch,
  type XenstoreClient,
  XenstoreError,
  type XenstoreRequests,
} from './client.ts';
import type { MemorySession } from './memory_store.ts';
import { domainPath } from './paths.ts';
import { quotaError } from './quota.ts';
import {
  type OpenTransaction,
  runTransaction,
  TransactionGate,
  transactionIsOver,
} from './transaction.ts';
import { WatchQueue } from './watch_queue.ts';
import { messageType, writePayload } from './wire.ts';

/** The requests inside one transaction, or outside any (0). */
class MemoryRequests implements XenstoreRequests {
  /** Throws when no request may be made any more. */
  readonly #session: () => MemorySession;
  readonly #transaction: number;

  constructor(session: () => MemorySession, transaction: number) {
    this.#session = session;
    this.#transaction = transaction;
  }

  async read(path: string): Promise<string | undefined> {
    return absentIsUndefined(() => this.#session().node(this.#transaction, path).value);
  }

  async directory(path: string): Promise<string[] | undefined> {
    return absentIsUndefined(() => [...this.#session().node(this.#transaction, path).children]);
  }

  async write(path: string, value: string): Promise<void> {
    // Builds the message for its size check: what fits here must fit on the wire.
    writePayload(path, value);
    this.#session().write(this.#transaction, path, value);
  }

  async mkdir(path: string): Promise<void> {
    this.#session().mkdir(this.#transaction, path);
  }

  async remove(path: string): Promise<void> {
    absentIsUndefined(() => this.#session().remove(this.#transaction, path));
  }

  async getPermissions(path: string): Promise<Permission[]> {
    const { permissions } = this.#session().node(this.#transaction, path);
    return permissions.map((permission) => ({ ...permission }));
  }

  async setPermissions(path: string, permissions: Permission[]): Promise<void> {
    this.#session().setPermissions(this.#transaction, path, permissions);
  }
}

export class MemoryXenstore extends MemoryRequests implements XenstoreClient {
  readonly #session: MemorySession;
  readonly #queues = new Set<WatchQueue>();
  readonly #gate = new TransactionGate();
  #nextToken = 1;

  constructor(session: MemorySession) {
    super(() => session, 0);
    this.#session = session;
  }

  /** Never: the store is in this process. */
  get lost(): undefined {
    return undefined;
  }

  onLink(): void {}

  async watch(path: string, onChange: (changedPath: string) => void): Promise<Watch> {
    const token = String(this.#nextToken++);
    const queue = new WatchQueue(path, onChange);
    withinQuota(messageType.watch, `watch ${path}`, () =>
      this.#session.addWatch(path, token, (changed) => queue.add(changed)),
    );
    this.#queues.add(queue);
    return {
      path,
      remove: async () => {
        queue.close();
        if (this.#queues.delete(queue)) this.#session.removeWatch(path, token);
      },
    };
  }

  async transaction<T>(body: (requests: XenstoreRequests) => Promise<T>): Promise<T> {
    return runTransaction(this.#gate, async () => this.#startTransaction(), body);
  }

  async domainPath(domid: number): Promise<string> {
    return domainPath(domid);
  }

  async close(): Promise<void> {
    for (const queue of this.#queues) queue.close();
    this.#queues.clear();
    this.#session.close();
  }

  #startTransaction(): OpenTransaction {
    const id = withinQuota(messageType.transactionStart, 'start a transaction', () =>
      this.#session.startTransaction(),
    );
    let over = false;
    const openSession = () => {
      if (over) throw transactionIsOver();
      return this.#session;
    };
    return {
      requests: new MemoryRequests(openSession, id),
      end: async (commit) => {
        over = true;
        this.#session.endTransaction(id, commit);
      },
    };
  }
}

/** As over the wire: see quota.ts. */
function withinQuota<T>(type: number, what: string, request: () => T): T {
  try {
    return request();
  } catch (error) {
    throw (error instanceof XenstoreError && quotaError(type, error.code, what)) || error;
  }
}

function absentIsUndefined<T>(request: () => T): T | undefined {
  try {
    return request();
  } catch (error) {
    if (error instanceof XenstoreError && error.code === 'ENOENT') return undefined;
    throw error;
  }
}
