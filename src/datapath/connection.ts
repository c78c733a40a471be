// SPDX-License-Identifier: Apache-2.0
// A VBD that is connected, as the control plane sees it.
import type { EventEmitter } from 'node:events';
import type { VbdCounters, VbdLatency } from './counters.ts';
import type { Mirror } from './mirrors.ts';

/** What a connected VBD may report by itself. */
export interface ConnectionEvents {
  'ring-broken': [queue: number, reason: string];
  /** Requests failed, wait and are tried again; told once, until `io-recovered`. */
  'io-failing': [queue: number, error: string];
  'io-recovered': [queue: number];
}

/** One connected VBD on the data path. */
export interface Connection extends EventEmitter<ConnectionEvents> {
  /**
   * Resolves when all that a dead process left in the rings is answered and they have been looked
   * at, or it is disconnected. Where nothing was taken over, at once.
   */
  readonly recovered: Promise<void>;
  counters(): VbdCounters;
  /** Undefined once it is being disconnected. */
  latency(): VbdLatency | undefined;
  /** The number of the reactor that serves each of its queues; none once it is disconnecting. */
  reactors(): number[];
  /** Which set of limits holds from now on; "": none does. It is there. */
  limit(name: string): void;
  /** What is written from now on is mirrored. Rejects, and nothing has changed. */
  attach(mirror: Pick<Mirror, 'handle'>): Promise<void>;
  detach(): Promise<void>;
  /**
   * Makes its mirror's destination the disk. `decide` is called when nothing is under way, and the
   * guest waits for it; where it throws, or this rejects, all stays as it was.
   */
  switchTo(decide: () => void): Promise<void>;
  /**
   * Resolves when the kernel has let go of the guest's memory and nothing is mapped or bound.
   */
  disconnect(): Promise<void>;
}
