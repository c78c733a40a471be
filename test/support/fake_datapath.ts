// SPDX-License-Identifier: Apache-2.0
// A data path without data, for the control plane's unit tests only: it records what it is asked
// for, and each of its steps can be made to fail or to wait. Integration tests use the loopback
// engine.
import { EventEmitter } from 'node:events';
import type {
  EngineCounters,
  NativeTargetSpec,
  TargetCapabilities,
  VbdCounters,
} from '../../src/datapath/binding.ts';
import {
  type Connection,
  type ConnectionEvents,
  type ConnectOptions,
  type Datapath,
  DatapathError,
  type OpenTarget,
} from '../../src/datapath/datapath.ts';

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
};

export class FakeTarget implements OpenTarget {
  readonly handle: number;
  readonly spec: NativeTargetSpec;
  isOpen = true;
  /** What a look at the medium would tell. */
  medium: TargetCapabilities;
  capabilities: TargetCapabilities;

  constructor(handle: number, spec: NativeTargetSpec, medium: TargetCapabilities) {
    this.handle = handle;
    this.spec = spec;
    this.medium = medium;
    this.capabilities = medium;
  }

  async refresh(): Promise<TargetCapabilities> {
    this.capabilities = this.medium;
    return this.capabilities;
  }

  async close(): Promise<void> {
    this.isOpen = false;
  }
}

export class FakeConnection extends EventEmitter<ConnectionEvents> implements Connection {
  readonly target: FakeTarget;
  readonly options: ConnectOptions;
  brokenQueues = 0;
  isConnected = true;
  readonly #mayLetGo: () => Promise<void>;
  #disconnecting: Promise<{ drained: boolean }> | undefined;

  constructor(target: FakeTarget, options: ConnectOptions, mayLetGo: () => Promise<void>) {
    super();
    this.target = target;
    this.options = options;
    this.#mayLetGo = mayLetGo;
  }

  counters(): VbdCounters {
    return { reads: 1, brokenQueues: this.brokenQueues } as VbdCounters;
  }

  disconnect(): Promise<{ drained: boolean }> {
    this.#disconnecting ??= this.#mayLetGo().then(() => {
      this.isConnected = false;
      // A broken ring holds requests that were never answered.
      return { drained: this.brokenQueues === 0 };
    });
    return this.#disconnecting;
  }
}

export class FakeDatapath implements Datapath {
  capabilities = someCapabilities;
  openError: string | undefined;
  connectError: string | undefined;
  /** What a disconnect waits for. */
  mayLetGo: () => Promise<void> = () => Promise.resolve();
  readonly targets: FakeTarget[] = [];
  readonly connections: FakeConnection[] = [];

  async openTarget(spec: NativeTargetSpec): Promise<FakeTarget> {
    if (this.openError) throw new DatapathError('ENOENT', this.openError);
    const target = new FakeTarget(this.targets.length + 1, spec, this.capabilities);
    this.targets.push(target);
    return target;
  }

  async connect(target: OpenTarget, options: ConnectOptions): Promise<FakeConnection> {
    if (this.connectError) throw new DatapathError('EINVAL', this.connectError);
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
    const connection = new FakeConnection(opened, options, () => this.mayLetGo());
    this.connections.push(connection);
    return connection;
  }

  /** All that is open or connected: 0 after a clean end. */
  get held(): number {
    const targets = this.targets.filter((target) => target.isOpen).length;
    return targets + this.connections.filter((connection) => connection.isConnected).length;
  }

  counters(): EngineCounters {
    return { mappedPages: 0, boundPorts: 0, reactors: [] };
  }

  close(): void {}
}
