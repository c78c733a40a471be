// SPDX-License-Identifier: Apache-2.0
// One export: its target opened, claimed and offered; while that cannot be done, tried again.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Bitmaps, PinnedBitmap } from '../bitmaps/bitmaps.ts';
import type { VbdCounters } from '../datapath/counters.ts';
import type { Datapath, NbdExport } from '../datapath/datapath.ts';
import { RingdiskError } from '../errors.ts';
import type { Logger } from '../log.ts';
import { formatLimits, type Limits, parseLimits } from '../target/limits.ts';
import { nbdAddress } from '../target/nbd_address.ts';
import { parseTarget } from '../target/target_spec.ts';
import { Backoff } from '../vbd/backoff.ts';
import type { VbdInfo } from '../vbd/info.ts';
import type { LimitSets } from '../vbd/limit_sets.ts';
import { changedLimits, type LimitChange, type LimitInfo, limitInfo } from '../vbd/limits.ts';
import type { OpenTargets } from '../vbd/open_targets.ts';
import type { TargetUse } from '../vbd/target_entry.ts';
import { type ExportWish, isVbdName, oldUriOf, uriOf } from './export_wish.ts';

/** How often a medium that is handed over is asked whether its writer has gone. */
const GOODBYE_MS = 100;

/** How often disks are looked at that have to let go. */
const DRAIN_LOOK_MS = 20;

const TRIES = { firstMs: 1000, mostMs: 30_000, leastMs: 1000 };

/** JSON-able. */
export interface ExportInfo extends Omit<ExportWish, 'limits' | 'identity'> {
  readonly uri: string;
  /** In the older form, which XAPI reads. */
  readonly oldUri: string;
  readonly state: 'exported' | 'waiting';
  /** Bytes; while it is exported. */
  readonly size?: number;
  readonly clients: number;
  /** Of the clients that are there now, together. */
  readonly counters?: VbdCounters;
  readonly limits?: LimitInfo;
  /** Why it waits. */
  readonly error?: string;
}

export interface ExportServices {
  readonly datapath: Pick<Datapath, 'addExport'>;
  readonly openTargets: Pick<OpenTargets, 'open' | 'reserve' | 'release'>;
  /** Throws VBD_UNKNOWN. */
  readonly findVbd: (name: string) => VbdInfo;
  readonly bitmaps: Pick<Bitmaps, 'pin'>;
  readonly limitSets: LimitSets;
  readonly backendDomid: number;
  /** How long opening a target may take. */
  readonly openMs: number;
  readonly log: Logger;
}

export class Exported {
  #wish: ExportWish;
  readonly #services: ExportServices;
  readonly #handedOver: () => void;
  readonly #end = new AbortController();
  #use: TargetUse | undefined;
  #offered: NbdExport | undefined;
  #error: string | undefined;
  #pinned: PinnedBitmap[] = [];

  /** `handedOver`: its clients have said goodbye, and it was to end then. */
  constructor(wish: ExportWish, services: ExportServices, handedOver: () => void) {
    this.#wish = wish;
    this.#services = services;
    this.#handedOver = handedOver;
  }

  get wish(): ExportWish {
    return this.#wish;
  }

  /** All its clients together, at once. Throws LIMIT_INVALID, and nothing has changed then. */
  limit({ limits, off }: Omit<LimitChange, 'reset'>): void {
    const { limits: _, ...wish } = this.wish;
    const word = limits && !off ? changedLimits(this.#limitSets, this.#limits, limits) : 'none';
    this.#wish = word === 'none' ? wish : { ...wish, limits: formatLimits(word) };
    const name = this.#useLimits();
    this.#offered?.limit(name);
  }

  get #limitSets(): LimitSets {
    return this.#services.limitSets;
  }

  get #limits(): Limits {
    const limits = parseLimits(this.wish.limits ?? '');
    return typeof limits === 'string' ? {} : limits;
  }

  /** As disks of a group know it, and whoever uses its medium. */
  get #called(): string {
    return `export ${this.wish.name}`;
  }

  #useLimits(): string {
    return this.#limitSets.use(this.#called, this.#limits);
  }

  /** Whoever is to have its medium when it has ended waits until it is exported again. */
  reserve(): void {
    const { handOver, identity } = this.wish;
    if (!handOver || identity === undefined || this.#end.signal.aborted) return;
    this.#services.openTargets.reserve(identity, undefined, this.#target().user);
  }

  /** Rejects with what is in the way; nothing is left open then. */
  async begin(takeOver = false): Promise<void> {
    const { openMs } = this.#services;
    const signal = AbortSignal.any([AbortSignal.timeout(openMs), this.#end.signal]);
    try {
      await this.#offer(takeOver, signal);
    } catch (error) {
      throw signal.aborted ? this.#lateOrRemoved() : error;
    }
    // While that was under way nobody could end it.
    if (!this.#end.signal.aborted) return;
    await this.#letGo();
    throw this.#lateOrRemoved();
  }

  #lateOrRemoved(): RingdiskError {
    if (this.#end.signal.aborted) {
      return new RingdiskError('EXPORT_REFUSED', 'It has been removed meanwhile.');
    }
    const seconds = Math.round(this.#services.openMs / 1000);
    return new RingdiskError(
      'TARGET_BUSY',
      `Its target has not been opened for ${seconds} s: its storage hangs, or another disk is ` +
        'about to let go of it.',
    );
  }

  async #offer(takeOver: boolean, signal: AbortSignal): Promise<void> {
    const { name, socket, readOnly, source, detectZeroes = false, group } = this.wish;
    const { openTargets } = this.#services;
    const { spec, user } = this.#target();
    const use = await openTargets.open(spec, user, { takeOver: false, signal });
    openTargets.release(user.name);
    try {
      if (!readOnly) await use.claim({ takeOver, signal });
      const bitmaps = this.#pinBitmaps(use);
      const options = {
        ...{ path: socket, name, description: source, readOnly, bitmaps, detectZeroes },
        ...(group !== undefined && { group }),
        limits: this.#useLimits(),
      };
      this.#offered = await this.#services.datapath.addExport(use, options);
      this.#use = use;
      this.#error = undefined;
      if (this.wish.handOver) this.#wish = { ...this.wish, identity: use.capabilities.identity };
      if (this.wish.handOver) this.#endWithClients(this.#offered);
    } catch (error) {
      this.#releaseBitmaps();
      this.reserve();
      const closed = use.close().catch(() => {});
      // One that hangs is closed when it has answered.
      if (!signal.aborted) await closed;
      throw error;
    }
  }

  /** One that was lost says no goodbye: it comes back. */
  #endWithClients(offered: NbdExport): void {
    const timer = setInterval(() => {
      const clients = offered.clients();
      if (clients && (clients.count > 0 || clients.goodbyes === 0)) return;
      clearInterval(timer);
      if (clients) this.#handedOver();
    }, GOODBYE_MS);
    timer.unref();
  }

  /** Neither cleared nor removed while clients can read them. Throws BITMAP_UNKNOWN or _REFUSED. */
  #pinBitmaps({ capabilities }: TargetUse): { name: string; path: string }[] {
    for (const name of this.wish.bitmaps) {
      this.#pinned.push(this.#services.bitmaps.pin(capabilities, name));
    }
    return this.#pinned.map(({ name, path }) => ({ name, path }));
  }

  #releaseBitmaps(): void {
    for (const pinned of this.#pinned.splice(0)) pinned.release();
  }

  /** Tries until it is exported, or ended. */
  async keepTrying(): Promise<void> {
    const backoff = new Backoff(TRIES);
    const { signal } = this.#end;
    while (!signal.aborted) {
      try {
        return await this.begin(true);
      } catch (error) {
        if (signal.aborted) return;
        const { message } = error as Error;
        if (message !== this.#error) {
          this.#services.log.warn({ export: this.wish.name, err: error }, 'cannot export it yet');
        }
        this.#error = message;
        backoff.failed();
      }
      await sleep(backoff.dueMs, undefined, { signal, ref: false }).catch(() => {});
    }
  }

  info(): ExportInfo {
    const clients = this.#offered?.clients();
    const { limits: _, identity: __, ...wish } = this.wish;
    const limits = limitInfo(this.#limitSets, this.#called, this.#limits, 'operator');
    return {
      ...wish,
      ...(limits && { limits }),
      uri: uriOf(this.wish),
      oldUri: oldUriOf(this.wish),
      state: this.#offered ? 'exported' : 'waiting',
      ...(this.#use && { size: this.#use.capabilities.capacity }),
      clients: clients?.count ?? 0,
      ...(clients && clients.count > 0 && { counters: clients.counters }),
      ...(this.#why !== undefined && { error: this.#why }),
    };
  }

  /** What it waits for. */
  get #why(): string | undefined {
    if (this.#offered) return undefined;
    return this.#error ?? 'its target has not been opened yet';
  }

  /** See Exports.drain(). */
  async drainDisks(domid: number | undefined, ms: number): Promise<string[]> {
    const deadline = performance.now() + ms;
    for (;;) {
      const busy = this.#use?.busyDisks() ?? [];
      const left = busy.filter((user) => domid === undefined || user.domid === domid);
      if (left.length === 0 || performance.now() >= deadline) return left.map(({ name }) => name);
      await sleep(DRAIN_LOOK_MS);
    }
  }

  /** Its clients' connections are ended and its target let go of. Safe to call twice. */
  async end(): Promise<void> {
    this.#end.abort();
    this.#services.openTargets.release(this.#called);
    await this.#letGo();
    this.#limitSets.leave(this.#called);
  }

  async #letGo(): Promise<void> {
    const [offered, use] = [this.#offered, this.#use];
    this.#offered = this.#use = undefined;
    use?.leave();
    await offered?.remove();
    this.#releaseBitmaps();
    await use?.close();
  }

  #target() {
    const { name, source, readOnly, handOver = false } = this.wish;
    const called = this.#called;
    if (!isVbdName(source)) {
      const { kind, path, share = false } = parseTarget(source);
      const { backendDomid: domid } = this.#services;
      const exported = nbdAddress(this.wish.socket, name);
      const user = { name: called, domid, readOnly, share, handsOver: handOver, exported };
      return { spec: { kind: kind ?? ('auto' as const), path, readOnly }, user };
    }
    const vbd = this.#services.findVbd(source);
    if (!vbd.target) throw notReady(source);
    if (!readOnly) this.#refuseWriters(vbd);
    const { kind, path } = vbd.target;
    // One of the VM's own uses.
    const user = { name: called, domid: vbd.domid, readOnly, share: false };
    return { spec: { kind, path, readOnly }, user };
  }

  #refuseWriters({ name, readOnly }: VbdInfo): void {
    if (readOnly) {
      throw new RingdiskError(
        'EXPORT_REFUSED',
        `${name} is read-only: export it with --read-only.`,
      );
    }
    if (this.wish.allowWriters) return;
    throw new RingdiskError(
      'EXPORT_REFUSED',
      `A guest writes to ${name}: export it with --read-only, or with --allow-writers if its ` +
        'clients and the guest know of each other. What two write without that is destroyed.',
    );
  }
}

function notReady(source: string): RingdiskError {
  return new RingdiskError('VBD_NOT_READY', `${source} has no open target.`);
}
