// SPDX-License-Identifier: Apache-2.0
// One open target per medium, counted: two disks on one medium are two uses of it. What is one
// medium the data path tells by its identity, once it is open; so each path is opened, and what
// turns out to be open already is closed again. An open that hangs is kept until it answers and
// joined by whoever asks for the same, so that nobody can pile them up.
import { setMaxListeners } from 'node:events';
import type {
  FillStatus,
  NativeTargetSpec,
  TargetCapabilities,
  TargetWait,
} from '../datapath/binding.ts';
import type { Datapath, MediumParts, OpenOptions, OpenTarget } from '../datapath/datapath.ts';
import { RingdiskError } from '../errors.ts';
import { withFill } from '../target/target_spec.ts';
import type { XenstoreClient } from '../xenstore/client.ts';
import { Reservations } from './reservations.ts';
import {
  type Footprint,
  footprintOf,
  foreignMeetings,
  isItsExport,
  type KnownUser,
  meetings,
  mustOutlast,
  mustWait,
  readVms,
  refuseHeld,
  type TargetUser,
} from './sharing.ts';

/**
 * Opens that have not answered for `lateMs`; beyond it nothing new is opened. Each has a worker of
 * its own. More than a host has disks: all those of a server that is gone must not stop the others.
 */
const LATE_OPENS_MAX = 1024;

interface PendingOpen {
  readonly entry: Promise<Entry>;
  readonly since: number;
  /** Who waits for it. */
  waiters: number;
}

/** One VBD's use of an open target. */
export interface TargetUse
  extends Pick<OpenTarget, 'handle' | 'capabilities' | 'parts' | 'fence' | 'fill' | 'setFill'> {
  /**
   * See OpenTarget; whoever shares the target has made the claim for all. Also waits for what those
   * who go have under way.
   */
  claim(options: { takeOver: boolean }): Promise<void>;
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

/** Is told of the media that somebody may write to. */
export interface MediumWatcher {
  /** Nobody uses it before this is over. */
  opened(identity: string, target: OpenTarget): Promise<void> | undefined;
  /** Nobody holds it any more, nor is it reserved. */
  released(identity: string): void;
}

export class OpenTargets {
  watcher: MediumWatcher | undefined;
  readonly #datapath: Pick<Datapath, 'openTarget'>;
  readonly #xenstore: XenstoreClient;
  readonly #lateMs: number;
  readonly #pending = new Map<string, PendingOpen>();
  /** At most one of a kind and a mode for each identity. */
  readonly #entries = new Map<string, Entry[]>();
  readonly #reserved: Reservations;
  readonly #end = new AbortController();
  readonly #onRelease = new Set<() => void>();

  constructor(datapath: Pick<Datapath, 'openTarget'>, xenstore: XenstoreClient, lateMs: number) {
    this.#datapath = datapath;
    this.#xenstore = xenstore;
    this.#reserved = new Reservations(xenstore);
    this.#lateMs = lateMs;
    // One for each open under way.
    setMaxListeners(0, this.#end.signal);
  }

  /**
   * May take for ever. Throws DatapathError, or TARGET_BUSY while a VM that may not share the
   * medium with this one uses it. `takeOver`: whatever was shared stays so.
   */
  async open(
    spec: NativeTargetSpec,
    user: TargetUser,
    options: { takeOver: boolean; signal: AbortSignal },
  ): Promise<TargetUse> {
    const vms = await readVms(this.#xenstore, user.domid);
    const newcomer = { ...user, vms };
    const admit = options.takeOver ? undefined : this.#admitFor(newcomer);
    const entry = await this.#expect(withFill(spec, options.takeOver), admit, options.signal);
    try {
      const users = () => this.#usersOf(entry);
      const use = () => entry.use(newcomer, users, () => this.#released());
      // Without an identity there is no medium behind it (null): nothing that two could destroy.
      if (options.takeOver || entry.target.capabilities.identity === '') return use();
      return await this.#whenFree(entry.footprint, newcomer, meetings, use, options.signal);
    } finally {
      entry.expected--;
      entry.closeUnused();
    }
  }

  /** Calls back, once, when somebody has let go of a target: there may be room for others. */
  onRelease(tell: () => void): void {
    this.#onRelease.add(tell);
  }

  /**
   * Nobody else gets this medium, whoever is faster: a guest uses it, and goes on when its VBD can
   * be taken over.
   */
  reserve(identity: string, parts: MediumParts | undefined, user: TargetUser): void {
    this.#reserved.add(identity, parts, user);
  }

  /** By the VBD's name. What it has open is another matter. */
  release(name: string): void {
    const identity = this.#reserved.remove(name);
    if (identity === undefined) return;
    this.#released();
    this.#tellIfFree(identity);
  }

  /** All that can be written to, of one medium. */
  writers(identity: string): OpenTarget[] {
    const entries = this.#entries.get(identity) ?? [];
    return entries.filter(({ readOnly }) => !readOnly).map(({ target }) => target);
  }

  /** Somebody may write to it, or goes on to when it is taken over. */
  isHeld(identity: string): boolean {
    return this.writers(identity).length > 0 || this.#reserved.has(identity);
  }

  /** Of what can be written to and lies on the same medium. */
  otherNames(identity: string): string[] {
    const [entry] = this.#entries.get(identity) ?? [];
    const others = entry ? this.#underOtherNames(entry) : [];
    const names = others.filter(({ readOnly }) => !readOnly).map(nameOf);
    return [...new Set(names)];
  }

  #tellIfFree(identity: string): void {
    if (identity !== '' && !this.isHeld(identity)) this.watcher?.released(identity);
  }

  #released(): void {
    const waiting = [...this.#onRelease];
    this.#onRelease.clear();
    for (const tell of waiting) tell();
  }

  /** Nobody waits for an open any more, and what comes later is closed. */
  end(): void {
    this.#end.abort();
  }

  /** The target, reserved: `expected` is the caller's to take back. */
  async #expect(
    spec: NativeTargetSpec,
    admit: OpenOptions['admit'],
    signal: AbortSignal,
  ): Promise<Entry> {
    const pending = this.#open(spec, admit);
    pending.waiters++;
    let isWaiting = true;
    const stopWaiting = () => {
      if (isWaiting) pending.waiters--;
      isWaiting = false;
    };
    let giveUp = () => {};
    const givenUp = new Promise<never>((_, reject) => {
      giveUp = () => {
        stopWaiting();
        reject(new Error('the open was given up'));
      };
    });
    signal.addEventListener('abort', giveUp, { once: true });
    if (signal.aborted) giveUp();
    try {
      // Whoever still waits when it opens has been counted as expected.
      return await Promise.race([pending.entry, givenUp]);
    } finally {
      signal.removeEventListener('abort', giveUp);
      stopWaiting();
    }
  }

  #open(spec: NativeTargetSpec, admit: OpenOptions['admit']): PendingOpen {
    const key = JSON.stringify([spec.kind, spec.path, spec.readOnly, spec.fill?.lateSource]);
    const known = this.#pending.get(key);
    if (known) return known;
    this.#refuseTooMany();
    const opened = this.#datapath.openTarget(spec, { signal: this.#end.signal, admit });
    const entry = opened
      .finally(() => this.#pending.delete(key))
      .then((target) => {
        const admitted = this.#admit(target, spec.readOnly);
        admitted.expected++;
        const count = () => {
          admitted.expected += pending.waiters - 1;
          admitted.closeUnused();
          return admitted;
        };
        return admitted.ready ? admitted.ready.then(count) : count();
      });
    const pending: PendingOpen = { entry, since: performance.now(), waiters: 0 };
    // Where nobody waits for it any more, nobody is to be told.
    entry.catch(() => {});
    this.#pending.set(key, pending);
    return pending;
  }

  #refuseTooMany(): void {
    const lateSince = performance.now() - this.#lateMs;
    const late = [...this.#pending.values()].filter(({ since }) => since < lateSince).length;
    if (late < LATE_OPENS_MAX) return;
    throw new RingdiskError(
      'TARGET_BUSY',
      `${late} targets have been opened and have not answered: no more are tried meanwhile.`,
    );
  }

  /** One that is open already takes its place. A writer's serves a reader, too. */
  #admit(target: OpenTarget, readOnly: boolean): Entry {
    const { identity, kind } = target.capabilities;
    const others = identity === '' ? [] : (this.#entries.get(identity) ?? []);
    const same = others.find(
      (entry) => entry.kind === kind && (entry.readOnly === readOnly || readOnly),
    );
    if (same) {
      target.close().catch(() => {});
      return same;
    }
    const entry = new Entry(target, readOnly, () => {
      const left = this.#entries.get(identity)?.filter((other) => other !== entry) ?? [];
      if (left.length > 0) this.#entries.set(identity, left);
      else this.#entries.delete(identity);
      this.#tellIfFree(identity);
    });
    if (identity !== '') this.#entries.set(identity, [...others, entry]);
    if (identity !== '' && !readOnly) entry.ready = this.watcher?.opened(identity, target);
    entry.siblings = () => this.#entries.get(identity)?.filter((other) => other !== entry) ?? [];
    return entry;
  }

  /** What an image's program writes as it opens it may be another's bytes already. */
  #admitFor(newcomer: KnownUser): OpenOptions['admit'] {
    return (identity, parts) => {
      const footprint = footprintOf(identity, parts);
      return this.#whenFree(footprint, newcomer, foreignMeetings, () => {}, this.#end.signal);
    };
  }

  /**
   * Waits for those who are about to go; throws TARGET_BUSY for others. `use` is called in the very
   * moment in which it is free: several may wait for that.
   */
  async #whenFree<Result>(
    footprint: Footprint,
    newcomer: KnownUser,
    meet: typeof meetings,
    use: () => Result,
    signal: AbortSignal,
  ): Promise<Result> {
    for (;;) {
      const unknown = this.#reserved.know(footprint);
      if (unknown) {
        await unknown;
        continue;
      }
      this.#reserved.refuse(footprint, newcomer, meet);
      const uses = [...this.#entries.values()].flat().flatMap((entry) => [...entry.uses]);
      const inTheWay = uses.filter((one) => {
        const met = meet(footprint, one.footprint);
        if (met.length > 0) refuseMirrored(one, newcomer);
        if (!one.isLeaving) refuseHeld(newcomer, one.user, met);
        return one.isLeaving && mustWait(newcomer, one.user, met);
      });
      if (inTheWay.length === 0) return use();
      if (signal.aborted) throw new Error('the open was given up');
      await Promise.all(inTheWay.map((one) => one.closed));
    }
  }

  #usersOf(entry: Entry): Use[] {
    const entries = [entry, ...entry.siblings(), ...this.#underOtherNames(entry)];
    return entries.flatMap(({ uses }) => [...uses]);
  }

  /** A file is also what lies behind its loop devices, an image also what it is based on. */
  #underOtherNames({ footprint, target }: Entry): Entry[] {
    const { identity } = target.capabilities;
    const others = [...this.#entries].filter(([name]) => name !== identity);
    return others.flatMap(([, entries]) =>
      entries.filter((other) => meetings(footprint, other.footprint).length > 0),
    );
  }
}

function nameOf({ target }: Entry): string {
  return target.capabilities.identity;
}

/** What another one writes a mirror would miss. */
function refuseMirrored({ isAlone, user }: Use, newcomer: KnownUser): void {
  if (!isAlone || user.name === newcomer.name || newcomer.readOnly) return;
  throw new RingdiskError(
    'TARGET_BUSY',
    `The target is a part of a mirror (${user.name}), which would miss what another one writes.`,
  );
}

class Entry {
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

  use(user: KnownUser, users: () => Use[], onClosed: () => void): TargetUse {
    const use = new Use(this, user, users);
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

class Use implements TargetUse {
  readonly user: KnownUser;
  isLeaving = false;
  isAlone = false;
  drained: Promise<void> | undefined;
  /** And nothing has begun since. */
  isDrained = false;
  readonly closed: Promise<void>;
  #tellClosed: () => void = () => {};
  readonly #entry: Entry;
  readonly #users: () => Use[];

  /** `users`: of the same medium. */
  constructor(entry: Entry, user: KnownUser, users: () => Use[]) {
    this.#entry = entry;
    this.user = user;
    this.#users = users;
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

  async claim({ takeOver }: { takeOver: boolean }): Promise<void> {
    this.isDrained = false;
    await this.#entry.claim(takeOver);
    if (takeOver) return;
    // Both may have been there when this one was offered, as the ends of a migration are.
    const others = this.#users().filter((use) => use !== this && this.#waitsFor(use));
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
    return this.#users()
      .filter((use) => use !== this)
      .map(({ user }) => user);
  }

  busyDisks(): readonly TargetUser[] {
    return this.#users()
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
