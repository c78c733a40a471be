// SPDX-License-Identifier: Apache-2.0
// What the control plane needs of xenstore. Two implementations pass one contract suite:
// connection.ts (the real xenstored, over its socket or /dev/xen/xenbus) and memory_store.ts.

/**
 * A failed request. `code` is xenstored's errno name: ENOENT, EACCES, EINVAL, EAGAIN, EEXIST, ...;
 * EQUOTA, as oxenstored has it, whatever xenstored calls a quota that is used up.
 */
export class XenstoreError extends Error {
  readonly code: string;
  constructor(code: string, message: string) {
    super(message);
    this.name = 'XenstoreError';
    this.code = code;
  }
}

/**
 * One access entry, xenstore's own letters: n none, r read, w write, b both. The first is the
 * owner.
 */
export interface Permission {
  domid: number;
  access: 'n' | 'r' | 'w' | 'b';
}

/**
 * The requests, inside or outside a transaction. Paths are absolute, or relative to the own
 * domain's home; relative ones are for /dev/xen/xenbus and the in-memory store only: what they mean
 * on xenstored's socket is undefined. A path or value that xenstore could not take is refused
 * before it is sent: EINVAL for the path, E2BIG for both together over 4079 bytes.
 * What is not UTF-8 is in these strings as src/text.ts has it, byte for byte.
 */
export interface XenstoreRequests {
  /** The node's value; undefined where there is no such node. */
  read(path: string): Promise<string | undefined>;
  /** The children's names; undefined where there is no such node. */
  directory(path: string): Promise<string[] | undefined>;
  write(path: string, value: string): Promise<void>;
  mkdir(path: string): Promise<void>;
  /** No error where there is no such node. */
  remove(path: string): Promise<void>;
  getPermissions(path: string): Promise<Permission[]>;
  setPermissions(path: string, permissions: Permission[]): Promise<void>;
}

export interface Watch {
  readonly path: string;
  /** Resolves when xenstored has forgotten it; no callback after that. */
  remove(): Promise<void>;
}

/** xenstored cannot be reached: requests wait for a while, then fail. */
export interface LinkLoss {
  readonly since: Date;
  readonly reason: string;
}

export interface XenstoreClient extends XenstoreRequests {
  /** undefined while xenstored can be reached. */
  readonly lost: LinkLoss | undefined;
  /** Calls back when the link is lost, and without a loss when it is there again. */
  onLink(listener: (loss: LinkLoss | undefined) => void): void;
  /**
   * Calls back with the path that changed: once at registration, then on every change at or below
   * `path`; spurious calls and repeated ones are allowed. Survives a reconnect (and fires then).
   * Callbacks are coalesced: a path already waiting to be delivered is not queued again, and too
   * many different ones become one call with `path` itself. So `path` itself always means: look at
   * everything below again.
   */
  watch(path: string, onChange: (changedPath: string) => void): Promise<Watch>;
  /**
   * Runs `body` in a transaction and commits; runs it again from the start on EAGAIN, a bounded
   * number of times (then EAGAIN is thrown). What `body` throws aborts the transaction and is
   * thrown.
   */
  transaction<T>(body: (requests: XenstoreRequests) => Promise<T>): Promise<T>;
  /** The home of a domain, "/local/domain/N". */
  domainPath(domid: number): Promise<string>;
  /** Ends watches and transactions; every later request fails with ECANCELED. */
  close(): Promise<void>;
}
