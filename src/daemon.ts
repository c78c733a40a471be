// SPDX-License-Identifier: Apache-2.0
// Serves every VBD of the configured kinds on one platform: wires discovery and VBDs, and owns the
// order of start and stop. The platform is the caller's, who closes it after stop().
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { Bitmaps } from './bitmaps/bitmaps.ts';
import type { Config } from './config.ts';
import type { EngineCounters } from './datapath/counters.ts';
import { RingdiskError } from './errors.ts';
import { Images } from './formats/images.ts';
import { vbdLogger } from './log.ts';
import { Exports } from './nbd/exports.ts';
import type { Platform } from './platform/platform.ts';
import { defaultTiming, type Timing, type VbdServices } from './vbd/device.ts';
import { Discovery } from './vbd/discover.ts';
import { type VbdId, vbdName } from './vbd/id.ts';
import { LimitSets } from './vbd/limit_sets.ts';
import { OpenTargets } from './vbd/open_targets.ts';
import type { RateLimit } from './vbd/rate_limit.ts';
import { Records } from './vbd/record.ts';
import { type TakeOverLimits, TakeOvers } from './vbd/take_overs.ts';
import { guestPace } from './vbd/turns.ts';
import { Vbd } from './vbd/vbd.ts';
import { logLink } from './xenstore/link_log.ts';
import { SharedWatches } from './xenstore/shared_watches.ts';

const BY_NAME = new Intl.Collator('en', { numeric: true, sensitivity: 'variant' });
/** So long after a start it is said how many disks were taken over, though some may still be. */
const REPORT_MS = 30_000;
const TAKE_OVERS: TakeOverLimits = { atOnce: 16, patienceMs: 1000, probationMs: 5000 };

export interface DaemonOptions {
  readonly timing?: Timing;
  /** Also serves devices that are most likely somebody else's. */
  readonly force?: boolean;
}

/** Resolves when every VBD that is there already has been found. */
export async function startDaemon(
  config: Config,
  platform: Platform,
  log: Logger,
  options: DaemonOptions = {},
): Promise<Daemon> {
  const daemon = new Daemon(config, platform, log, options);
  try {
    await daemon.start();
  } catch (error) {
    daemon.handOver();
    throw error;
  }
  return daemon;
}

export class Daemon {
  /** What NBD clients can reach. */
  readonly exports: Exports;
  /** What was written to the disks' media since when. */
  readonly bitmaps: Bitmaps;
  readonly #config: Config;
  readonly #platform: Platform;
  readonly #log: Logger;
  readonly #services: VbdServices;
  readonly #discovery: Discovery;
  readonly #vbds = new Map<string, Vbd>();
  /** By domain: all disks of a guest share one. */
  readonly #paces = new Map<number, RateLimit>();
  readonly #hanging: string[] = [];
  #stopped: Promise<void> | undefined;

  constructor(config: Config, platform: Platform, log: Logger, options: DaemonOptions = {}) {
    const { timing = defaultTiming, force = config.force } = options;
    this.#config = config;
    this.#platform = platform;
    this.#log = log;
    const { xenstore, datapath, backendDomid } = platform;
    const records = new Records(config.runtimeDir);
    const takeOvers = new TakeOvers(records, TAKE_OVERS);
    const frontends = new SharedWatches(xenstore);
    datapath.onWarning((message) => log.warn(message));
    const images = new Images(datapath, config.runtimeDir, log);
    const openTargets = new OpenTargets(images, xenstore, timing.openMs);
    this.bitmaps = new Bitmaps(config.runtimeDir, openTargets, log);
    openTargets.watcher = this.bitmaps;
    const limitSets = new LimitSets(datapath, config.runtimeDir, log);
    const shared = { xenstore, frontends, datapath, config, backendDomid, timing, force };
    const endExports = (name: string) => this.exports.vbdGoes(name);
    const opened = { images, openTargets, limitSets };
    const exportedAt = (address: string) => this.exports.sourceAt(address);
    this.#services = { ...shared, ...opened, records, takeOvers, endExports, exportedAt };
    const findVbd = (name: string) => this.find(name).info();
    const { openMs } = timing;
    this.exports = new Exports(
      {
        ...{ datapath, openTargets, limitSets, findVbd, bitmaps: this.bitmaps },
        ...{ backendDomid, openMs, log },
      },
      config.runtimeDir,
    );
    logLink(xenstore, log);
    this.#discovery = new Discovery(xenstore, backendDomid, {
      changed: (id) => this.#changed(id),
      changedAbove: (kind, domid) => this.#changedAbove(kind, domid),
      failed: (kind, error) => log.error({ kind, err: error }, 'cannot list the devices'),
    });
  }

  /** See startDaemon(). */
  async start(): Promise<void> {
    const { records } = this.#services;
    records.tidy();
    this.exports.recall();
    this.#services.images.begin();
    // Guests wait for these: they come before all that has to be looked for.
    const recorded = records.list().filter(({ kind }) => this.#config.backends.includes(kind));
    for (const id of recorded) this.#changed(id);
    this.exports.reserve();
    this.bitmaps.begin();
    const vbds = [...this.#vbds.values()];
    void this.#reportTakeOver(vbds);
    // A device that hangs must not keep the others from being found.
    const attempted = Promise.all(vbds.map((vbd) => vbd.attempted()));
    await Promise.race([attempted, sleep(TAKE_OVERS.patienceMs, undefined, { ref: false })]);
    await this.#discovery.start(this.#config.backends);
    this.exports.begin();
  }

  /**
   * Takes no more VBDs and closes the ones there are. Resolves when the kernel has let go of every
   * guest's memory, but for those whose storage hangs: see `hanging`. Safe to call twice.
   */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  /** After stop(): VBDs whose I/O is not over, so that nothing more can be closed. */
  get hanging(): readonly string[] {
    return this.#hanging;
  }

  async #stop(): Promise<void> {
    // Its watches stay until the end: toolstacks and frontends still have a say in a close.
    await this.exports.stop();
    const vbds = [...this.#vbds.values()];
    await Promise.all(
      vbds.map(async (vbd) => {
        if (!(await vbd.stop())) this.#hanging.push(vbd.name);
      }),
    );
    await this.#discovery.stop();
    this.#services.openTargets.end();
    await this.#services.images.stop();
    this.#services.takeOvers.handOver();
    this.#vbds.clear();
  }

  /**
   * Does nothing any more, so that this process can end and another daemon take over what is
   * connected. The data path goes on until then, and cannot be closed.
   */
  handOver(): void {
    this.#services.takeOvers.handOver();
    this.leave();
  }

  /** As handOver(), but for whoever comes next it looks as if this process had died. */
  leave(): void {
    this.#stopped ??= Promise.resolve();
    this.#services.takeOvers.leave();
    this.#services.images.leave();
    for (const vbd of this.#vbds.values()) vbd.leave();
  }

  /** In order of kind, domain and device. */
  vbds(): Vbd[] {
    return this.#present().sort((a, b) => BY_NAME.compare(a.name, b.name));
  }

  #present(): Vbd[] {
    return [...this.#vbds.values()].filter((vbd) => vbd.isPresent);
  }

  /**
   * By "vbd3/5/51712", or "5/51712" or "5/xvda" where that is one VBD only. Throws VBD_UNKNOWN with
   * a sentence that helps.
   */
  find(name: string): Vbd {
    const matches = this.#present().filter((vbd) => namesOf(vbd).includes(name));
    const [match] = matches;
    if (match && matches.length === 1) return match;
    const shown = JSON.stringify(name.slice(0, 100));
    if (matches.length > 1) {
      const names = matches
        .map((vbd) => vbd.name)
        .sort(BY_NAME.compare)
        .join(', ');
      throw new RingdiskError('VBD_UNKNOWN', `${shown} could be any of ${names}.`);
    }
    throw new RingdiskError(
      'VBD_UNKNOWN',
      `There is no VBD ${shown}; name it as the list does, or as DOMID/DEVID or DOMID/VDEV.`,
    );
  }

  /** Of the whole data path. */
  counters(): EngineCounters {
    return this.#platform.datapath.counters();
  }

  async #reportTakeOver(vbds: readonly Vbd[]): Promise<void> {
    if (vbds.length === 0) return;
    // One whose medium hangs may never be.
    const patience = sleep(REPORT_MS, false, { ref: false });
    const settled = vbds.map((vbd) => Promise.race([vbd.takenOver(), patience]));
    const takenOver = (await Promise.all(settled)).filter(Boolean);
    // Of the process, as guests see it.
    const sinceStartMs = Math.round(performance.now());
    const found = { recorded: vbds.length, takenOver: takenOver.length, sinceStartMs };
    this.#log.info(found, 'went on with the disks of the daemon before');
  }

  #changed(id: VbdId): void {
    const name = vbdName(id);
    const known = this.#vbds.get(name);
    if (known) {
      known.mark();
      return;
    }
    if (this.#stopped) return;
    const vbd = new Vbd(
      id,
      this.#services,
      vbdLogger(this.#log, name),
      this.#pace(id.domid),
      () => {
        this.#vbds.delete(name);
        void this.exports.vbdGoes(name);
        this.#services.limitSets.leave(name);
        const others = [...this.#vbds.values()];
        if (!others.some((other) => other.id.domid === id.domid)) this.#paces.delete(id.domid);
      },
    );
    this.#vbds.set(name, vbd);
  }

  #pace(domid: number): RateLimit {
    const pace = this.#paces.get(domid) ?? guestPace();
    this.#paces.set(domid, pace);
    return pace;
  }

  #changedAbove(kind: string, domid: number | undefined): void {
    for (const vbd of this.#vbds.values()) {
      const { id } = vbd;
      if (id.kind === kind && (domid === undefined || id.domid === domid)) vbd.mark();
    }
  }
}

function namesOf(vbd: Vbd): string[] {
  const { domid, devid } = vbd.id;
  const names = [vbd.name, `${domid}/${devid}`];
  return vbd.vdev === undefined ? names : [...names, `${domid}/${vbd.vdev}`];
}
