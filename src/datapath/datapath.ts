// SPDX-License-Identifier: Apache-2.0
// Typed promises over the native boundary. No call reaches native after close().
import { EventEmitter } from 'node:events';
import type {
  ClaimOptions,
  ConnectRequest,
  EngineOptions,
  ExportClients,
  ExportRequest,
  FillStatus,
  LimitRates,
  NativeBinding,
  NativeEngine,
  NativeEvent,
  NativeTargetSpec,
  TargetCapabilities,
  TargetWait,
} from './binding.ts';
import type { Connection, ConnectionEvents } from './connection.ts';
import type { EngineCounters, VbdCounters, VbdLatency } from './counters.ts';
import type { MirrorSetup } from './mirror_binding.ts';
import { type Mirror, Mirrors } from './mirrors.ts';

/** A native failure: `code` is the errno's name ("ENOENT") or "EINVAL"-like, never empty. */
export class DatapathError extends Error {
  readonly code: string;
  constructor(code: string, message: string) {
    super(message);
    this.name = 'DatapathError';
    this.code = code;
  }
}

type Done = Extract<NativeEvent, { type: 'done' }>;
type ConnectionEvent = Extract<NativeEvent, { vbd: number }>;
/** Something that will be over. */
interface Pending {
  readonly over: Promise<void>;
  end(): void;
}
interface Waiter {
  resolve(event: Done): void;
  reject(error: Error): void;
}

/** Of an image: media beyond the one that its identity names, by their identities. */
export interface MediumParts {
  /** More files with its data: used as that one is. */
  readonly beside: readonly string[];
  /** What it is based on: only ever read. */
  readonly bases: readonly string[];
}

/** An opened medium. */
export interface OpenTarget {
  readonly handle: number;
  /** As last probed; `refresh` and `claim` replace it. */
  readonly capabilities: TargetCapabilities;
  /** Missing: it is all on one medium. */
  readonly parts?: MediumParts | undefined;
  /**
   * Makes it this process's, before the first connect. Waits some seconds for a last user that is
   * closing, then rejects with EBUSY; with `takeOver` it never waits, and `fence` is pending until
   * the dead process's I/O is over.
   */
  claim(options: ClaimOptions): Promise<void>;
  /** Pending while writes wait for a dead process's I/O; `undefined`: they do not. */
  readonly fence: Promise<void> | undefined;
  refresh(): Promise<TargetCapabilities>;
  /**
   * What is written to it from now on is marked in these bitmap files, and in no others. Resolves
   * when all who write do so; what was in flight is marked as well.
   */
  track(bitmaps: readonly string[]): Promise<void>;
  close(): Promise<void>;
  /** What has been waiting in the kernel for more than a second. */
  waits(): TargetWait[];
  /** Of a disk that is being filled; undefined: it is none, or was full when it was opened. */
  fill(): FillStatus | undefined;
  /** See NativeEngine; nothing for a target that is not being filled. */
  setFill(rate: number, paused: boolean): void;
}

export interface OpenOptions {
  readonly signal?: AbortSignal;
  readonly admit?:
    | ((identity: string, parts: MediumParts | undefined) => Promise<void>)
    | undefined;
}

export type ConnectOptions = Omit<ConnectRequest, 'target'>;

/** A target that NBD clients can reach. */
export interface NbdExport {
  /** Undefined once it is being removed. */
  clients(): ExportClients | undefined;
  /** Which set of limits holds for all of them together from now on; "": none does. It is there. */
  limit(name: string): void;
  /** Ends its clients' connections. Resolves when they are gone; safe to call twice. */
  remove(): Promise<void>;
}

export type ExportOptions = Omit<ExportRequest, 'target'>;

/** What the control plane needs of the data path; implemented below and by nothing else. */
export interface Datapath {
  /**
   * May take for ever on a medium that hangs. Once `signal` is aborted it rejects with ECANCELED,
   * and what comes later is closed. `admit` rejects where an image is not to be opened: it is
   * called before another program opens it for good.
   */
  openTarget(spec: NativeTargetSpec, options?: OpenOptions): Promise<OpenTarget>;
  /** The target has been claimed. */
  connect(target: Pick<OpenTarget, 'handle'>, options: ConnectOptions): Promise<Connection>;
  /** Calls back with what the operator should know of a target in use. */
  onWarning(tell: (message: string) => void): void;
  /** The target has been claimed, unless it is read only. Rejects where nobody can listen. */
  addExport(target: Pick<OpenTarget, 'handle'>, options: ExportOptions): Promise<NbdExport>;
  /** Of an open target; see mirrors.ts. */
  makeMirror(target: Pick<OpenTarget, 'handle'>, setup: MirrorSetup): Promise<Mirror>;
  /** A named set of limits, made or changed: disks that it holds for are told at once. */
  setLimits(name: string, rates: LimitRates): void;
  /** A set by itself: what one has of a set that several share. See NativeEngine. */
  setShare(name: string, group: string, weight: number): void;
  /** Disks that it holds for keep it until they are gone. */
  dropLimits(name: string): void;
  counters(): EngineCounters;
  close(): void;
}

class NativeConnection extends EventEmitter<ConnectionEvents> implements Connection {
  readonly #datapath: NativeDatapath;
  readonly #vbd: number;
  readonly #recovery: Pending;
  #last: VbdCounters | undefined;
  #disconnecting: Promise<void> | undefined;

  constructor(datapath: NativeDatapath, vbd: number, recovery: Pending) {
    super();
    this.#datapath = datapath;
    this.#vbd = vbd;
    this.#recovery = recovery;
  }

  get recovered(): Promise<void> {
    return this.#recovery.over;
  }

  counters(): VbdCounters {
    this.#last =
      this.#disconnecting && this.#last ? this.#last : this.#datapath.vbdCounters(this.#vbd);
    return this.#last;
  }

  reactors(): number[] {
    return this.#disconnecting ? [] : this.#datapath.vbdReactors(this.#vbd);
  }

  latency(): VbdLatency | undefined {
    return this.#disconnecting ? undefined : this.#datapath.vbdLatency(this.#vbd);
  }

  limit(name: string): void {
    if (!this.#disconnecting) this.#datapath.limit(this.#vbd, name);
  }

  attach(mirror: Pick<Mirror, 'handle'>): Promise<void> {
    return this.#datapath.exchange((engine, id) =>
      engine.attachMirror(id, this.#vbd, mirror.handle),
    );
  }

  detach(): Promise<void> {
    return this.#datapath.exchange((engine, id) => engine.detachMirror(id, this.#vbd));
  }

  async switchTo(decide: () => void): Promise<void> {
    await this.#datapath.exchange((engine, id) => engine.beginSwitch(id, this.#vbd));
    let error: unknown;
    try {
      decide();
    } catch (reason) {
      error = reason ?? new Error('refused');
    }
    const decided = this.#datapath.exchange((engine, id) =>
      engine.decideSwitch(id, this.#vbd, error === undefined),
    );
    if (error === undefined) return decided;
    await decided.catch(() => {});
    throw error;
  }

  disconnect(): Promise<void> {
    this.#disconnecting ??= this.#datapath.disconnect(this.#vbd).then(() => this.#recovery.end());
    return this.#disconnecting;
  }
}

/** Opens the engine of `options.platform`; throws when the platform is not there. */
export function openDatapath(binding: NativeBinding, options: EngineOptions): Datapath {
  return new NativeDatapath(binding, options);
}

class NativeDatapath implements Datapath {
  readonly #engine: NativeEngine;
  readonly #waiters = new Map<number, Waiter>();
  readonly #connections = new Map<number, NativeConnection>();
  /** By target. */
  readonly #fences = new Map<number, Pending>();
  /** By target: who keeps what is known of it. */
  readonly #learns = new Map<number, (capabilities: TargetCapabilities) => void>();
  /** By the command of the connect. */
  readonly #recoveries = new Map<number, Pending>();
  readonly #mirrors: Mirrors;
  #warn: (message: string) => void = () => {};
  #nextCommand = 1;
  #closed = false;

  constructor(binding: NativeBinding, options: EngineOptions) {
    this.#engine = binding.createEngine(options, (events) => {
      for (const event of events) this.#onEvent(event);
    });
    this.#mirrors = new Mirrors(this.#engine, (post) => this.#command(post));
  }

  async openTarget(
    spec: NativeTargetSpec,
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<OpenTarget> {
    let command = 0;
    const opening = this.#command((id) => {
      command = id;
      this.#engine.openTarget(id, spec);
    }).then((opened) => this.#openTarget(opened.value, required(opened.capabilities)));
    if (!signal) return opening;
    return orGivenUp(opening, signal, () => {
      if (!this.#closed) this.#engine.cancelOpen(command);
    });
  }

  onWarning(tell: (message: string) => void): void {
    this.#warn = tell;
  }

  async connect(target: Pick<OpenTarget, 'handle'>, options: ConnectOptions): Promise<Connection> {
    const request: ConnectRequest = { ...options, target: target.handle };
    const recovery = makePending();
    const isTakeOver = options.queues.some(({ takeOver }) => takeOver);
    if (!isTakeOver) recovery.end();
    const done = await this.#command((id) => {
      this.#engine.connect(id, request);
      if (!isTakeOver) return;
      // It may come right behind `done`, before anybody could listen.
      this.#recoveries.set(id, recovery);
      void recovery.over.then(() => this.#recoveries.delete(id));
    });
    const connection = new NativeConnection(this, done.value, recovery);
    this.#connections.set(done.value, connection);
    return connection;
  }

  async addExport(target: Pick<OpenTarget, 'handle'>, options: ExportOptions): Promise<NbdExport> {
    const request: ExportRequest = { ...options, target: target.handle };
    const { value } = await this.#command((id) => this.#engine.addExport(id, request));
    let removing: Promise<void> | undefined;
    return {
      limit: (name) => {
        if (!removing && !this.#closed) this.#engine.limitExport(value, name);
      },
      clients: () => (removing || this.#closed ? undefined : this.#engine.exportClients(value)),
      remove: () => {
        removing ??= this.#command((id) => this.#engine.removeExport(id, value)).then(() => {});
        return removing;
      },
    };
  }

  makeMirror(target: Pick<OpenTarget, 'handle'>, setup: MirrorSetup): Promise<Mirror> {
    return this.#mirrors.make(target.handle, setup);
  }

  async exchange(post: (engine: NativeEngine, id: number) => void): Promise<void> {
    await this.#command((id) => post(this.#engine, id));
  }

  async disconnect(vbd: number): Promise<void> {
    await this.#command((id) => this.#engine.disconnect(id, vbd));
    this.#connections.delete(vbd);
  }

  setLimits(name: string, rates: LimitRates): void {
    if (!this.#closed) this.#engine.setLimits(name, rates);
  }

  setShare(name: string, group: string, weight: number): void {
    if (!this.#closed) this.#engine.setShare(name, group, weight);
  }

  dropLimits(name: string): void {
    if (!this.#closed) this.#engine.dropLimits(name);
  }

  limit(vbd: number, name: string): void {
    if (!this.#closed) this.#engine.limit(vbd, name);
  }

  vbdCounters(vbd: number): VbdCounters {
    this.#assertOpen();
    return this.#engine.vbdCounters(vbd);
  }

  vbdLatency(vbd: number): VbdLatency {
    this.#assertOpen();
    return this.#engine.vbdLatency(vbd);
  }

  vbdReactors(vbd: number): number[] {
    this.#assertOpen();
    return this.#engine.vbdReactors(vbd);
  }

  counters(): EngineCounters {
    this.#assertOpen();
    return this.#engine.counters();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#engine.close();
    const gone = new DatapathError('ECANCELED', 'the data path was closed');
    for (const waiter of this.#waiters.values()) waiter.reject(gone);
    this.#waiters.clear();
  }

  #openTarget(handle: number, first: TargetCapabilities): OpenTarget {
    const fences = this.#fences;
    let capabilities = first;
    this.#learns.set(handle, (news) => {
      capabilities = news;
    });
    return {
      handle,
      get capabilities() {
        return capabilities;
      },
      get fence() {
        return fences.get(handle)?.over;
      },
      claim: async (options) => {
        const done = await this.#command((id) => this.#engine.claimTarget(id, handle, options));
        capabilities = done.capabilities ?? capabilities;
      },
      waits: () => (this.#closed ? [] : this.#engine.targetWaits(handle)),
      fill: () => (this.#closed ? undefined : (this.#engine.fillStatus(handle) ?? undefined)),
      setFill: (rate, paused) => {
        this.#assertOpen();
        this.#engine.setFill(handle, rate, paused);
      },
      refresh: async () => {
        const done = await this.#command((id) => this.#engine.refreshTarget(id, handle));
        capabilities = required(done.capabilities);
        return capabilities;
      },
      track: async (bitmaps) => {
        await this.#command((id) => this.#engine.trackTarget(id, handle, [...bitmaps]));
      },
      close: async () => {
        await this.#command((id) => this.#engine.closeTarget(id, handle));
        this.#learns.delete(handle);
        fences.get(handle)?.end();
        fences.delete(handle);
      },
    };
  }

  #command(post: (id: number) => void): Promise<Done> {
    this.#assertOpen();
    const id = this.#nextCommand++;
    return new Promise((resolve, reject) => {
      this.#waiters.set(id, { resolve, reject });
      try {
        post(id);
      } catch (error) {
        this.#waiters.delete(id);
        reject(error);
      }
    });
  }

  #onEvent(event: NativeEvent): void {
    switch (event.type) {
      case 'done':
        // Now, not when the waiter runs: the next event may be that it is lifted.
        if (event.fenced && !this.#fences.has(event.value)) {
          this.#fences.set(event.value, makePending());
        }
        this.#settle(event.command)?.resolve(event);
        return;
      case 'failed':
        this.#recoveries.get(event.command)?.end();
        this.#settle(event.command)?.reject(new DatapathError(event.code, event.message));
        return;
      case 'recovered':
        this.#recoveries.get(event.command)?.end();
        return;
      case 'fence-lifted':
        this.#fences.get(event.target)?.end();
        this.#fences.delete(event.target);
        return;
      case 'target-warned':
        this.#learns.get(event.target)?.(event.capabilities);
        this.#warn(event.message);
        return;
      case 'mirror-changed':
      case 'mirror-gone':
        this.#mirrors.on(event);
        return;
      default:
        // Whoever waits for the connect before it has not yet seen the connection.
        setImmediate(() => this.#tellConnection(event));
    }
  }

  #tellConnection(event: ConnectionEvent): void {
    const connection = this.#connections.get(event.vbd);
    switch (event.type) {
      case 'ring-broken':
        connection?.emit('ring-broken', event.queue, event.reason);
        return;
      case 'io-failing':
        connection?.emit('io-failing', event.queue, event.error);
        return;
      case 'io-recovered':
        connection?.emit('io-recovered', event.queue);
        return;
    }
  }

  #settle(command: number): Waiter | undefined {
    const waiter = this.#waiters.get(command);
    this.#waiters.delete(command);
    return waiter;
  }

  #assertOpen(): void {
    if (this.#closed) throw new DatapathError('ECANCELED', 'the data path is closed');
  }
}

function makePending(): Pending {
  let end = () => {};
  const over = new Promise<void>((resolve) => {
    end = resolve;
  });
  return { over, end };
}

/** Whoever gave up does not wait; nobody else knows of what is opened after that. */
async function orGivenUp(
  opening: Promise<OpenTarget>,
  signal: AbortSignal,
  cancel: () => void,
): Promise<OpenTarget> {
  let giveUp = () => {};
  const givenUp = new Promise<never>((_, reject) => {
    giveUp = () => {
      reject(new DatapathError('ECANCELED', 'the open was given up'));
      cancel();
      opening.then((late) => late.close()).catch(() => {});
    };
  });
  if (signal.aborted) giveUp();
  else signal.addEventListener('abort', giveUp, { once: true });
  try {
    return await Promise.race([opening, givenUp]);
  } finally {
    signal.removeEventListener('abort', giveUp);
  }
}

function required(capabilities: TargetCapabilities | undefined): TargetCapabilities {
  if (!capabilities) throw new DatapathError('EPROTO', 'native answered without capabilities');
  return capabilities;
}
