// SPDX-License-Identifier: Apache-2.0
// An open target and who uses it. Which of them there are, open_targets.ts says.
import type { FillStatus, TargetCapabilities, TargetWait } from '../datapath/binding.ts';
import type { MediumParts, OpenTarget } from '../datapath/datapath.ts';
import { orAborted } from './beside.ts';
import {
  type Footprint,
  footprintOf,
  isItsExport,
  type KnownUser,
  mustOutlast,
  type TargetUser,
} from './sharing.ts';

interface ClaimWish {
  readonly takeOver: boolean;
  readonly signal?: AbortSignal;
}

/** One VBD's use of an open target. */
export interface TargetUse
  extends Pick<OpenTarget, 'handle' | 'capabilities' | 'parts' | 'fence' | 'fill' | 'setFill'> {
  /**
   * See OpenTarget; whoever shares the target has made the claim for all. Also waits for what those
   * who go have under way: for ever, unless `signal` is aborted.
   */
  claim(wish: ClaimWish): Promise<void>;
  refresh(): Promise<TargetCapabilities>;
  waits(): TargetWait[];
  /** It will be closed soon: others may wait for that. */
  leave(): void;
  /** What its VBD had under way is over then, though it keeps the target. */
  drain(over: Promise<void>): void;
  /** The last one closes the target. */
  close(): Promise<void>;
  /** Who else uses the medium. */
  others(): readonly TargetUser[];
  /** Of an export: the disks that are named by it, and have something under way or are about to. */
  busyDisks(): readonly TargetUser[];
  /** From now on nobody else gets the medium to write to it, not even of its own VM. */
  keepAlone(isAlone: boolean): void;
}

export class Entry {
  readonly target: OpenTarget;
  readonly readOnly: boolean;
  readonly uses = new Set<Use>();
  /** Whoever is about to use it. */
  expected = 0;
  /** Pending while it is made ready for its first user. */
  ready: Promise<void> | undefined;
  siblings: () => Entry[] = () => [];
  readonly #onClosed: () => void;
  #parts: MediumParts | undefined;
  #footprint: Footprint;
  #claim: Promise<void> | undefined;
  #closing: Promise<void> | undefined;

  constructor(target: OpenTarget, readOnly: boolean, onClosed: () => void) {
    this.target = target;
    this.readOnly = readOnly;
    this.#onClosed = onClosed;
    this.#parts = target.parts;
    this.#footprint = footprintOf(target.capabilities.identity, this.#parts);
  }

  /** A disk that is full lets go of what it was filled from. */
  get footprint(): Footprint {
    const { parts, capabilities } = this.target;
    if (parts !== this.#parts) this.#footprint = footprintOf(capabilities.identity, parts);
    this.#parts = parts;
    return this.#footprint;
  }

  get kind(): string {
    return this.target.capabilities.kind;
  }

  get isClaimed(): boolean {
    return this.#claim !== undefined;
  }

  use(user: KnownUser, others: OtherUsers, onClosed: () => void): TargetUse {
    const use = new Use(this, user, others);
    this.uses.add(use);
    void use.closed.then(onClosed);
    return use;
  }

  claim(takeOver: boolean): Promise<void> {
    // A second open target of one medium, such as a reader's beside a writer's, is no stranger.
    const share =
      [...this.uses].every(({ user }) => user.share) ||
      this.siblings().some((sibling) => sibling.isClaimed);
    this.#claim ??= this.target.claim({ share, takeOver }).catch((error: unknown) => {
      this.#claim = undefined;
      throw error;
    });
    return this.#claim;
  }

  /** Undefined while it is used. */
  closeUnused(): Promise<void> | undefined {
    if (this.uses.size > 0 || this.expected > 0) return undefined;
    if (!this.#closing) {
      this.#onClosed();
      this.#closing = this.target.close();
      this.#closing.catch(() => {});
    }
    return this.#closing;
  }
}

/** Of the same medium. */
interface OtherUsers {
  users(): Use[];
  /** Pending until one who hands it over has it open again; undefined: there is none. */
  handOver(): Promise<void> | undefined;
}

export class Use implements TargetUse {
  readonly user: KnownUser;
  isLeaving = false;
  isAlone = false;
  drained: Promise<void> | undefined;
  /** And nothing has begun since. */
  isDrained = false;
  readonly closed: Promise<void>;
  #tellClosed: () => void = () => {};
  readonly #entry: Entry;
  readonly #others: OtherUsers;

  constructor(entry: Entry, user: KnownUser, others: OtherUsers) {
    this.#entry = entry;
    this.user = user;
    this.#others = others;
    this.closed = new Promise((resolve) => {
      this.#tellClosed = resolve;
    });
  }

  get handle(): number {
    return this.#entry.target.handle;
  }

  get capabilities(): TargetCapabilities {
    return this.#entry.target.capabilities;
  }

  get parts(): MediumParts | undefined {
    return this.#entry.target.parts;
  }

  get footprint(): Footprint {
    return this.#entry.footprint;
  }

  get fence(): Promise<void> | undefined {
    return this.#entry.target.fence;
  }

  async claim({ takeOver, signal }: ClaimWish): Promise<void> {
    this.isDrained = false;
    const claimed = this.#claim(takeOver);
    await (signal ? orAborted(claimed, signal) : claimed);
  }

  async #claim(takeOver: boolean): Promise<void> {
    await this.#entry.claim(takeOver);
    if (takeOver) return;
    if (!this.user.handsOver) {
      for (let due = this.#others.handOver(); due; due = this.#others.handOver()) await due;
    }
    // Both may have been there when this one was offered, as the ends of a migration are.
    const others = this.#others.users().filter((use) => use !== this && this.#waitsFor(use));
    await Promise.all(
      others.map(({ isLeaving, user, closed, drained }) =>
        isLeaving || user.handsOver ? closed : drained,
      ),
    );
  }

  #waitsFor({ user }: Use): boolean {
    return user.handsOver === true || mustOutlast(this.user, user);
  }

  refresh(): Promise<TargetCapabilities> {
    return this.#entry.target.refresh();
  }

  waits(): TargetWait[] {
    return this.#entry.target.waits();
  }

  fill(): FillStatus | undefined {
    return this.#entry.target.fill();
  }

  setFill(rate: number, paused: boolean): void {
    this.#entry.target.setFill(rate, paused);
  }

  others(): readonly TargetUser[] {
    return this.#others
      .users()
      .filter((use) => use !== this)
      .map(({ user }) => user);
  }

  busyDisks(): readonly TargetUser[] {
    return this.#others
      .users()
      .filter((use) => isItsExport(use.user, this.user) && !use.isDrained)
      .map(({ user }) => user);
  }

  keepAlone(isAlone: boolean): void {
    this.isAlone = isAlone;
  }

  leave(): void {
    this.isLeaving = true;
  }

  drain(over: Promise<void>): void {
    this.drained = over;
    this.isDrained = false;
    const settled = () => {
      if (this.drained === over) this.isDrained = true;
    };
    over.then(settled, settled);
  }

  async close(): Promise<void> {
    this.leave();
    this.#entry.uses.delete(this);
    try {
      await this.#entry.closeUnused();
    } finally {
      this.#tellClosed();
    }
  }
}
