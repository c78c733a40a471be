// SPDX-License-Identifier: Apache-2.0
// A data path without data, for the control plane's unit tests only: it records what it is asked
// for, and each of its steps can be made to fail or to wait. Integration tests use the loopback
// engine.
import { EventEmitter } from 'node:events';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import type {
  ClaimOptions,
  FillStatus,
  LimitRates,
  NativeTargetSpec,
  TargetCapabilities,
  TargetWait,
} from '../../src/datapath/binding.ts';
import type { Connection, ConnectionEvents } from '../../src/datapath/connection.ts';
import type { EngineCounters, VbdCounters } from '../../src/datapath/counters.ts';
import {
  type ConnectOptions,
  type Datapath,
  DatapathError,
  type MediumParts,
  type NbdExport,
  type OpenTarget,
} from '../../src/datapath/datapath.ts';
import type { MirrorSetup } from '../../src/datapath/mirror_binding.ts';
import type { Mirror } from '../../src/datapath/mirrors.ts';
import { fakeMirror } from './fake_mirror.ts';

export const someCapabilities: TargetCapabilities = {
  capacity: 1 << 30,
  ioAlignment: 512,
  physicalBlock: 4096,
  readOnly: false,
  direct: true,
  discard: true,
  secureDiscard: false,
  discardGranularity: 4096,
  discardAlignment: 0,
  rotational: false,
  oneChannel: false,
  kind: 'null',
  identity: '',
  warnings: [],
};

export class FakeTarget implements OpenTarget {
  readonly handle: number;
  readonly spec: NativeTargetSpec;
  readonly parts: MediumParts | undefined;
  isOpen = true;
  claimed: ClaimOptions | undefined;
  fence: Promise<void> | undefined;
  /** What it hangs in. */
  hangs: TargetWait[] = [];
  /** What a look at the medium would tell. */
  medium: TargetCapabilities;
  capabilities: TargetCapabilities;

  readonly #datapath: FakeDatapath;

  constructor(
    handle: number,
    spec: NativeTargetSpec,
    medium: TargetCapabilities,
    datapath: FakeDatapath,
  ) {
    this.handle = handle;
    this.spec = spec;
    this.medium = medium;
    this.capabilities = medium;
    this.parts = datapath.parts.get(spec.path);
    this.#datapath = datapath;
  }

  async claim(options: ClaimOptions): Promise<void> {
    await this.#datapath.mayClaim(this.spec);
    if (this.claimed) throw new Error('claimed twice');
    this.claimed = options;
    if (options.takeOver) this.fence = this.#datapath.fence;
  }

  waits(): TargetWait[] {
    return this.hangs;
  }

  filling: FillStatus | undefined;

  fill(): FillStatus | undefined {
    return this.filling;
  }

  setFill(rate: number, paused: boolean): void {
    if (this.filling) this.filling = { ...this.filling, rate, paused };
  }

  async refresh(): Promise<TargetCapabilities> {
    await this.#datapath.mayOpen(this.spec);
    this.capabilities = this.medium;
    return this.capabilities;
  }

  /** As track() was last told. */
  tracked: readonly string[] = [];

  async track(bitmaps: readonly string[]): Promise<void> {
    await this.#datapath.mayTrack();
    this.tracked = bitmaps;
  }

  async close(): Promise<void> {
    this.isOpen = false;
  }
}

export class FakeConnection extends EventEmitter<ConnectionEvents> implements Connection {
  readonly target: FakeTarget;
  readonly options: ConnectOptions;
  recovered: Promise<void> = Promise.resolve();
  brokenQueues = 0;
  isConnected = true;
  limits: string;
  readonly #mayLetGo: () => Promise<void>;
  readonly #hasLimits: (name: string) => boolean;
  #disconnecting: Promise<void> | undefined;

  constructor(
    target: FakeTarget,
    options: ConnectOptions,
    mayLetGo: () => Promise<void>,
    hasLimits: (name: string) => boolean,
  ) {
    super();
    this.#hasLimits = hasLimits;
    this.limits = options.limits;
    this.target = target;
    this.options = options;
    this.#mayLetGo = mayLetGo;
  }

  counters(): VbdCounters {
    return { reads: 1, inFlight: 3, brokenQueues: this.brokenQueues } as VbdCounters;
  }

  reactors(): number[] {
    return this.options.queues.map(() => 0);
  }

  latency(): undefined {
    return undefined;
  }

  async attach(): Promise<void> {}

  async detach(): Promise<void> {}

  async switchTo(decide: () => void): Promise<void> {
    decide();
  }

  limit(name: string): void {
    if (name !== '' && !this.#hasLimits(name)) throw new Error(`no such limits: ${name}`);
    this.limits = name;
  }

  disconnect(): Promise<void> {
    this.#disconnecting ??= this.#mayLetGo().then(() => {
      if (!this.isConnected) return never();
      this.isConnected = false;
      for (const { journal } of this.options.queues) rmSync(journal, { force: true });
      return undefined;
    });
    return this.#disconnecting;
  }
}

export class FakeDatapath implements Datapath {
  capabilities = someCapabilities;
  /** Media by path, where they are not all alike. */
  readonly media = new Map<string, Partial<TargetCapabilities>>();
  /** Of those that are images. */
  readonly parts = new Map<string, MediumParts>();
  openError: string | undefined;
  openErrorCode = 'ENOENT';
  /** What an open, or a measurement, and a claim wait for. */
  mayOpen: (spec: NativeTargetSpec) => Promise<void> = () => Promise.resolve();
  mayClaim: (spec: NativeTargetSpec) => Promise<void> = () => Promise.resolve();
  /** What it takes until all who write mark what they write. */
  mayTrack: () => Promise<void> = () => Promise.resolve();
  /** Opens that have been asked for. */
  opens = 0;
  connectError: string | undefined;
  connectErrorCode = 'ESTALE';
  /** Whether a connect makes the journals' files. */
  journals = true;
  /** How often a connect finds the process before not quite gone. */
  busyConnects = 0;
  /** What writes to a target that is taken over wait for. */
  fence: Promise<void> | undefined;
  /** Whether what is left in this VBD's rings is never answered. */
  crashes: (options: ConnectOptions) => boolean = () => false;
  /** What a disconnect waits for. */
  mayLetGo: () => Promise<void> = () => Promise.resolve();
  #process = 0;
  #mirrors = 0;
  readonly targets: FakeTarget[] = [];
  readonly connections: FakeConnection[] = [];
  readonly limitSets = new Map<string, LimitRates>();

  /** The data path of a new process. */
  open(): Datapath {
    const process = this.#process;
    const alive = <T>(call: () => Promise<T>) => (process === this.#process ? call() : never());
    return {
      onWarning: () => {},
      openTarget: (spec, options) => alive(() => this.openTarget(spec, options)),
      connect: (target, options) => alive(() => this.connect(target, options)),
      addExport: () => this.addExport(),
      makeMirror: (target, setup) => this.makeMirror(target, setup),
      setLimits: (name, rates) => this.setLimits(name, rates),
      setShare: (name, group, weight) => this.setShare(name, group, weight),
      dropLimits: (name) => this.dropLimits(name),
      counters: () => this.counters(),
      close: () => this.close(),
    };
  }

  async makeMirror(_: unknown, setup: MirrorSetup): Promise<Mirror> {
    this.#mirrors++;
    return fakeMirror(this.#mirrors, setup);
  }

  setLimits(name: string, rates: LimitRates): void {
    this.limitSets.set(name, rates);
  }

  /** What somebody has of a group: its name and the weight. */
  readonly shares = new Map<string, readonly [group: string, weight: number]>();

  setShare(name: string, group: string, weight: number): void {
    if (!this.limitSets.has(group)) throw new Error('no such group');
    this.shares.set(name, [group, weight]);
  }

  dropLimits(name: string): void {
    this.limitSets.delete(name);
    this.shares.delete(name);
  }

  /** How often clients of exports have said goodbye. */
  goodbyes = 0;

  async addExport(): Promise<NbdExport> {
    const counters = {} as VbdCounters;
    return {
      clients: () => ({ count: 0, goodbyes: this.goodbyes, counters }),
      limit: () => {},
      remove: async () => {},
    };
  }

  onWarning(): void {}

  async openTarget(
    spec: NativeTargetSpec,
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<FakeTarget> {
    this.opens++;
    const process = this.#process;
    await orGivenUp(this.mayOpen(spec), signal);
    if (process !== this.#process) return never();
    if (this.openError) throw new DatapathError(this.openErrorCode, this.openError);
    const kind = spec.kind === 'auto' ? 'file' : spec.kind;
    const medium = { ...this.capabilities, kind, ...this.media.get(spec.path) };
    const target = new FakeTarget(this.targets.length + 1, spec, medium, this);
    this.targets.push(target);
    return target;
  }

  async connect(
    target: Pick<OpenTarget, 'handle'>,
    options: ConnectOptions,
  ): Promise<FakeConnection> {
    if (this.connectError) throw new DatapathError(this.connectErrorCode, this.connectError);
    if (this.busyConnects-- > 0) throw new DatapathError('EBUSY', 'the ring is in use');
    // What the real engine cannot do either: two of one VBD, or on a closed target.
    const isTaken = this.connections.some(
      (other) =>
        other.isConnected &&
        other.options.domid === options.domid &&
        other.options.devid === options.devid,
    );
    if (isTaken) throw new Error('connected twice');
    const opened = this.targets[target.handle - 1];
    if (!opened?.isOpen) throw new Error('connected to a closed target');
    if (!opened.claimed) throw new Error('connected to a target that nobody claimed');
    for (const { journal, takeOver } of options.queues) {
      if (takeOver && !existsSync(journal)) throw new DatapathError('ENOENT', `no ${journal}`);
      if (this.journals) writeFileSync(journal, 'a journal');
    }
    const hasLimits = (name: string) => this.limitSets.has(name) || this.shares.has(name);
    if (options.limits !== '' && !hasLimits(options.limits)) throw new Error('no such limits');
    const connection = new FakeConnection(opened, options, () => this.mayLetGo(), hasLimits);
    if (this.crashes(options)) connection.recovered = never();
    this.connections.push(connection);
    return connection;
  }

  /** All that is open or connected: 0 after a clean end. */
  get held(): number {
    const targets = this.targets.filter((target) => target.isOpen).length;
    return targets + this.connections.filter((connection) => connection.isConnected).length;
  }

  /** What the death of the process does to it: journals stay, and calls are never answered. */
  kill(): void {
    this.#process++;
    this.limitSets.clear();
    this.shares.clear();
    for (const connection of this.connections) connection.isConnected = false;
    for (const target of this.targets) target.isOpen = false;
  }

  counters(): EngineCounters {
    return { mappedPages: 0, boundPorts: 0, reactors: [] };
  }

  close(): void {}
}

async function orGivenUp(step: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  const givenUp = new Promise<never>((_, reject) => {
    signal?.addEventListener('abort', () => reject(new DatapathError('ECANCELED', 'given up')));
  });
  await Promise.race([step, givenUp]);
}

function never(): Promise<never> {
  return new Promise(() => {});
}
