// SPDX-License-Identifier: Apache-2.0
// A xenstore in this process, for the loopback platform and for tests: values, permissions,
// transactions and watches behave as xenstored's do, as far as a block backend and its frontends
// can tell. Not emulated: the quota of nodes, the introduction and death of domains (watches on
// "@releaseDomain" fire once, at registration), the rule that only living domains get permissions,
// targets (SET_TARGET), and watch depth.
import { type Permission, type XenstoreClient, XenstoreError } from './client.ts';
import { MemoryXenstore } from './memory_client.ts';
import {
  mayAccess,
  type NodeTable,
  type TreeChange,
  type TreeNode,
  TreeView,
} from './memory_tree.ts';
import { absolutePath, checkPath, checkWatchPath, domainPath, isAtOrBelow } from './paths.ts';

/** What a domain other than 0 may have; xenstored's own defaults. */
export interface StoreQuotas {
  readonly watches: number;
  readonly transactions: number;
}

const defaultQuotas: StoreQuotas = { watches: 128, transactions: 10 };

interface WatchEntry {
  readonly path: string;
  readonly domid: number;
  readonly onEvent: (path: string) => void;
}

/** The tree and everyone who watches it. */
export class MemoryStore implements NodeTable {
  readonly #nodes = new Map<string, TreeNode>();
  readonly #watches = new Set<WatchEntry>();
  readonly #quotas: StoreQuotas;
  readonly #openTransactions = new Map<number, number>();
  #generation = 0;

  constructor(quotas: Partial<StoreQuotas> = {}) {
    this.#quotas = { ...defaultQuotas, ...quotas };
    this.put('/', { value: '', permissions: [{ domid: 0, access: 'n' }], children: [] });
  }

  /** The store as domain `domid` sees it; 0 may do everything. */
  client(domid: number): XenstoreClient {
    return new MemoryXenstore(this.connect(domid));
  }

  /** The synchronous side of a client: what one connection to a xenstored would be. */
  connect(domid: number): MemorySession {
    return new MemorySession(this, domid);
  }

  get(path: string): TreeNode | undefined {
    return this.#nodes.get(path);
  }

  put(path: string, node: Omit<TreeNode, 'generation'>): void {
    this.#nodes.set(path, Object.freeze({ ...node, generation: ++this.#generation }));
  }

  drop(path: string): void {
    this.#nodes.delete(path);
  }

  /** Tells every watch that matches and whose domain may read one of `change.seenBy`. */
  notify(change: TreeChange): void {
    for (const watch of [...this.#watches]) {
      const matches = change.exact
        ? change.path === watch.path
        : isAtOrBelow(change.path, watch.path);
      if (!matches) continue;
      if (change.seenBy.some((permissions) => mayAccess(permissions, watch.domid, 'read'))) {
        watch.onEvent(change.path);
      }
    }
  }

  /** Throws E2BIG when the domain has too many, as xenstored does. */
  addWatch(watch: WatchEntry): void {
    const { domid } = watch;
    const isSame = (other: WatchEntry) => other.domid === domid;
    if (domid !== 0 && [...this.#watches].filter(isSame).length >= this.#quotas.watches) {
      throw new XenstoreError('E2BIG', `domain ${domid} has ${this.#quotas.watches} watches`);
    }
    this.#watches.add(watch);
    watch.onEvent(watch.path);
  }

  removeWatch(watch: WatchEntry): void {
    this.#watches.delete(watch);
  }

  /** Throws ENOSPC when the domain has too many open, as xenstored does. */
  countTransaction(domid: number, change: 1 | -1): void {
    const open = this.#openTransactions.get(domid) ?? 0;
    if (change > 0 && domid !== 0 && open >= this.#quotas.transactions) {
      throw new XenstoreError('ENOSPC', `domain ${domid} has ${open} transactions open`);
    }
    this.#openTransactions.set(domid, open + change);
  }
}

/**
 * A transaction's view: remembers what it saw, keeps what it changes to itself until the commit.
 */
class Transaction implements NodeTable {
  readonly changes: TreeChange[] = [];
  readonly #store: MemoryStore;
  readonly #seen = new Map<string, TreeNode | undefined>();
  readonly #own = new Map<string, TreeNode | undefined>();

  constructor(store: MemoryStore) {
    this.#store = store;
  }

  get(path: string): TreeNode | undefined {
    if (this.#own.has(path)) return this.#own.get(path);
    if (!this.#seen.has(path)) this.#seen.set(path, this.#store.get(path));
    return this.#seen.get(path);
  }

  put(path: string, node: Omit<TreeNode, 'generation'>): void {
    this.#own.set(path, Object.freeze({ ...node, generation: 0 }));
  }

  drop(path: string): void {
    this.#own.set(path, undefined);
  }

  /** Throws EAGAIN, and changes nothing, when anything it saw has changed since. */
  commit(): void {
    for (const [path, node] of this.#seen) {
      if (this.#store.get(path) !== node) {
        throw new XenstoreError('EAGAIN', `${path} changed during the transaction`);
      }
    }
    for (const [path, node] of this.#own) {
      if (node) this.#store.put(path, node);
      else this.#store.drop(path);
    }
    for (const change of this.changes) this.#store.notify(change);
  }
}

/** One domain's connection: its transactions and its watches end with it. */
export class MemorySession {
  readonly domid: number;
  readonly #store: MemoryStore;
  readonly #transactions = new Map<number, Transaction>();
  readonly #watches = new Map<string, WatchEntry>();
  #nextTransaction = 1;
  #closed = false;

  constructor(store: MemoryStore, domid: number) {
    this.domid = domid;
    this.#store = store;
    // Checks the domid as well: nothing else is to be done for a domain that connects.
    domainPath(domid);
  }

  /** `transaction` 0: outside any. Throws ENOENT for a transaction that is not open. */
  node(transaction: number, path: string): TreeNode {
    return this.#view(transaction).node(this.#resolve(path));
  }

  write(transaction: number, path: string, value: string): void {
    this.#view(transaction).write(this.#resolve(path), value);
  }

  mkdir(transaction: number, path: string): void {
    this.#view(transaction).mkdir(this.#resolve(path));
  }

  remove(transaction: number, path: string): void {
    this.#view(transaction).remove(this.#resolve(path));
  }

  setPermissions(transaction: number, path: string, permissions: readonly Permission[]): void {
    this.#view(transaction).setPermissions(this.#resolve(path), permissions);
  }

  startTransaction(): number {
    this.#assertOpen();
    this.#store.countTransaction(this.domid, 1);
    const id = this.#nextTransaction++;
    this.#transactions.set(id, new Transaction(this.#store));
    return id;
  }

  /** Throws EAGAIN when the commit met a conflict; the transaction is over in any case. */
  endTransaction(id: number, commit: boolean): void {
    const transaction = this.#open(id);
    this.#transactions.delete(id);
    this.#store.countTransaction(this.domid, -1);
    if (commit) transaction.commit();
  }

  /** Calls back at once, then on every change at or below; a relative watch gets relative paths. */
  addWatch(path: string, token: string, onEvent: (path: string) => void): void {
    this.#assertOpen();
    checkWatchPath(path);
    const key = watchKey(path, token);
    if (this.#watches.has(key)) throw new XenstoreError('EEXIST', `${path} is watched already`);
    const absolute = absolutePath(path, this.domid);
    const prefixLength = absolute.length - path.length;
    const entry: WatchEntry = {
      path: absolute,
      domid: this.domid,
      onEvent: (changed) => onEvent(changed.slice(prefixLength)),
    };
    this.#store.addWatch(entry);
    this.#watches.set(key, entry);
  }

  removeWatch(path: string, token: string): void {
    const key = watchKey(path, token);
    const entry = this.#watches.get(key);
    if (!entry) throw new XenstoreError('ENOENT', `${path} is not watched`);
    this.#watches.delete(key);
    this.#store.removeWatch(entry);
  }

  /** Every later request throws ECANCELED. */
  close(): void {
    this.#closed = true;
    for (const entry of this.#watches.values()) this.#store.removeWatch(entry);
    this.#watches.clear();
    for (const _ of this.#transactions) this.#store.countTransaction(this.domid, -1);
    this.#transactions.clear();
  }

  #resolve(path: string): string {
    checkPath(path);
    return absolutePath(path, this.domid);
  }

  #open(id: number): Transaction {
    const transaction = this.#transactions.get(id);
    if (!transaction) throw new XenstoreError('ENOENT', `there is no transaction ${id}`);
    return transaction;
  }

  #assertOpen(): void {
    if (this.#closed) throw new XenstoreError('ECANCELED', 'the xenstore connection is closed');
  }

  #view(id: number): TreeView {
    this.#assertOpen();
    if (id === 0) {
      return new TreeView(this.#store, this.domid, (change) => this.#store.notify(change));
    }
    const transaction = this.#open(id);
    return new TreeView(transaction, this.domid, (change) => transaction.changes.push(change));
  }
}

function watchKey(path: string, token: string): string {
  return `${path}\0${token}`;
}
