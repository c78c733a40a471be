// SPDX-License-Identifier: Apache-2.0
// One open target per medium, counted: two disks on one medium are two uses of it. What is one
// medium the data path tells by its identity, once it is open; so each path is opened, and what
// turns out to be open already is closed again. An open that hangs is kept until it answers and
// joined by whoever asks for the same, so that nobody can pile them up.
import { setMaxListeners } from 'node:events';
import type { NativeTargetSpec } from '../datapath/binding.ts';
import type { Datapath, MediumParts, OpenOptions, OpenTarget } from '../datapath/datapath.ts';
import { RingdiskError } from '../errors.ts';
import { withFill } from '../target/target_spec.ts';
import type { XenstoreClient } from '../xenstore/client.ts';
import { Reservations } from './reservations.ts';
import {
  type Footprint,
  footprintOf,
  foreignMeetings,
  type KnownUser,
  meetings,
  mustWait,
  readVms,
  refuseHeld,
  refuseMirrored,
  type TargetUser,
} from './sharing.ts';
import { Entry, type TargetUse, type Use } from './target_entry.ts';

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
      const handOver = () => this.#reserved.handOver(entry.footprint);
      const use = () => entry.use(newcomer, { users, handOver }, () => this.#released());
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
   * be taken over. Or a client of an export that hands it over does, and goes on when it is
   * exported again. `isAlone`: as keepAlone().
   */
  reserve(
    identity: string,
    parts: MediumParts | undefined,
    user: TargetUser,
    { isAlone = false }: { isAlone?: boolean } = {},
  ): void {
    this.#reserved.add(identity, parts, user, isAlone);
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
      // Whoever came since then waits until it has been handed over.
      const comesBack = newcomer.handsOver === true && this.#reserved.includes(newcomer.name);
      const uses = [...this.#entries.values()].flat().flatMap((entry) => [...entry.uses]);
      const inTheWay = uses.filter((one) => {
        const met = meet(footprint, one.footprint);
        if (one.isLeaving) return mustWait(newcomer, one.user, met);
        if (met.length > 0 && one.isAlone) refuseMirrored(newcomer, one.user);
        if (!comesBack) refuseHeld(newcomer, one.user, met);
        return false;
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
