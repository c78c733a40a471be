// SPDX-License-Identifier: Apache-2.0
// All that a daemon exports by NBD. Exports outlive it: the next daemon offers them again, and
// their clients connect anew.
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { RingdiskError, showValue } from '../errors.ts';
import type { Limits } from '../target/limits.ts';
import { nbdAddress } from '../target/nbd_address.ts';
import { isOverWithin } from '../vbd/beside.ts';
import { ExportRecords } from './export_records.ts';
import { checkWish, defaultName, type ExportWish, isVbdName } from './export_wish.ts';
import { Exported, type ExportInfo, type ExportServices } from './exported.ts';

/** Each may have a socket and connections of its own. */
const EXPORTS_MAX = 1024;
/** How long an operator waits for the I/O of clients that is under way. */
const REMOVE_MS = 10_000;
/** What a timer takes at most. */
const FOR_EVER = 2 ** 31 - 1;

/** What is missing has a default. */
export type ExportRequest = Pick<ExportWish, 'source'> & {
  readonly [Key in Exclude<keyof ExportWish, 'limits'>]?: ExportWish[Key] | undefined;
} & { readonly limits?: Limits | undefined };

export class Exports {
  readonly #services: ExportServices;
  readonly #records: ExportRecords;
  readonly #folder: string;
  readonly #all = new Map<string, Exported>();

  /** Sockets are in runtimeDir/nbd, where nobody asks for another place. */
  constructor(services: ExportServices, runtimeDir: string) {
    this.#services = services;
    this.#records = new ExportRecords(runtimeDir);
    this.#folder = path.join(runtimeDir, 'nbd');
  }

  /** What the daemon before offered: disks may be named by it. */
  recall(): void {
    const { log } = this.#services;
    try {
      const wishes = this.#records.read((name, problem) => {
        log.error({ export: name, error: problem }, 'it was exported before, and is no more');
      });
      for (const wish of wishes) this.#make(wish);
    } catch (error) {
      log.error({ err: error }, 'what was exported before is not known');
    }
  }

  /** Before anybody is connected who is to wait for it. */
  reserve(): void {
    for (const [name, exported] of this.#all) {
      try {
        exported.reserve();
      } catch (error) {
        this.#services.log.error({ export: name, err: error }, 'its medium is not reserved');
      }
    }
  }

  /** Offers again what the daemon before did, as soon as each can be. */
  begin(): void {
    if (this.#all.size > 0) this.#makeFolder();
    for (const exported of this.#all.values()) void exported.keepTrying();
  }

  /**
   * Throws EXPORT_INVALID, EXPORT_REFUSED, EXPORT_UNRECORDED, LIMIT_INVALID, VBD_UNKNOWN,
   * TARGET_BUSY or DatapathError.
   */
  async add(request: ExportRequest): Promise<ExportInfo> {
    const wish = this.#wish(request);
    checkWish(wish);
    if (this.#all.has(wish.name)) {
      throw new RingdiskError(
        'EXPORT_REFUSED',
        `There is an export ${showValue(wish.name)} already; give this one another name.`,
      );
    }
    if (this.#all.size >= EXPORTS_MAX) {
      throw new RingdiskError('EXPORT_REFUSED', `There are ${EXPORTS_MAX} exports already.`);
    }
    // Nobody else gets this name meanwhile.
    const exported = this.#make(wish);
    try {
      this.#makeFolder();
      if (request.limits) exported.limit({ limits: request.limits });
      await exported.begin();
      this.#write();
    } catch (error) {
      await exported.end();
      // Another one may have that name by now.
      if (this.#all.get(wish.name) === exported) this.#all.delete(wish.name);
      throw error;
    }
    this.#services.log.info({ export: wish.name, source: wish.source }, 'exported');
    return exported.info();
  }

  /** The target behind an export, by its address (src/target/nbd_address.ts). */
  sourceAt(address: string): string | undefined {
    const wishes = [...this.#all.values()].map(({ wish }) => wish);
    const found = wishes.find(({ socket, name }) => nbdAddress(socket, name) === address);
    return found === undefined || isVbdName(found.source) ? undefined : found.source;
  }

  /**
   * Waits until nothing is under way any more of the disks that are named by the export, or of
   * those of one domain. The names of those that are left after `ms`. Throws EXPORT_UNKNOWN.
   */
  drain(name: string, domid: number | undefined, ms: number): Promise<string[]> {
    return this.#find(name).drainDisks(domid, ms);
  }

  /** In the order in which they came. */
  list(): ExportInfo[] {
    return [...this.#all.values()].map((exported) => exported.info());
  }

  /** All its clients together, at once. Throws EXPORT_UNKNOWN, _UNRECORDED or LIMIT_INVALID. */
  limit(name: string, change: Parameters<Exported['limit']>[0]): ExportInfo {
    const exported = this.#find(name);
    exported.limit(change);
    this.#write();
    this.#services.log.info({ export: name, limits: exported.wish.limits ?? 'none' }, 'limited');
    return exported.info();
  }

  /**
   * Resolves when its clients are gone. Throws EXPORT_UNKNOWN, or where it has ended _UNRECORDED,
   * and EXPORT_BUSY if I/O of its clients is not over after `ms`.
   */
  async remove(name: string, ms = REMOVE_MS): Promise<void> {
    const exported = this.#find(name);
    this.#all.delete(name);
    try {
      this.#write();
    } finally {
      await this.#endWithin(exported, ms);
      this.#services.log.info({ export: name }, 'no longer exported');
    }
  }

  /** The disk is going away, and with it what is exported of it. */
  vbdGoes(name: string): Promise<unknown> {
    const its = [...this.#all.values()].filter(({ wish }) => wish.source === name);
    // Nothing of it may be under way when the disk is said to be unplugged.
    return Promise.allSettled(its.map(({ wish }) => this.remove(wish.name, FOR_EVER)));
  }

  /** Ends all connections; what is exported stays known. */
  async stop(): Promise<void> {
    await Promise.allSettled([...this.#all.values()].map((exported) => exported.end()));
  }

  async #endWithin(exported: Exported, ms: number): Promise<void> {
    if (await isOverWithin(exported.end(), ms)) return;
    throw new RingdiskError(
      'EXPORT_BUSY',
      `${showValue(exported.wish.name)} is no longer exported, but I/O of its clients is not ` +
        'over: its storage hangs. What is under way may still land.',
    );
  }

  #make(wish: ExportWish): Exported {
    const exported = new Exported(wish, this.#services, () => {
      this.remove(wish.name).catch((error: unknown) => {
        this.#services.log.error({ export: wish.name, err: error }, 'cannot end an export');
      });
    });
    this.#all.set(wish.name, exported);
    return exported;
  }

  #wish({ source, name = defaultName(source), ...rest }: ExportRequest): ExportWish {
    // By the name that stays: the guest's own may be given to another disk.
    const called = isVbdName(source) ? this.#services.findVbd(source).name : source;
    return {
      source: called,
      name,
      socket: rest.socket ?? path.join(this.#folder, `${name.replaceAll('/', '-')}.sock`),
      readOnly: rest.readOnly ?? false,
      allowWriters: rest.allowWriters ?? false,
      bitmaps: [...new Set(rest.bitmaps ?? [])],
      ...(rest.handOver && { handOver: true }),
      ...(rest.detectZeroes && { detectZeroes: true }),
      ...(rest.group !== undefined && { group: rest.group }),
    };
  }

  #find(name: string): Exported {
    const exported = this.#all.get(name);
    if (exported) return exported;
    throw new RingdiskError('EXPORT_UNKNOWN', `There is no export ${showValue(name)}.`);
  }

  #makeFolder(): void {
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
  }

  #write(): void {
    try {
      this.#records.write([...this.#all.values()].map(({ wish }) => wish));
    } catch (error) {
      throw new RingdiskError(
        'EXPORT_UNRECORDED',
        `What is exported cannot be recorded (${(error as Error).message}): a restart of the ` +
          'daemon would go by what was exported before.',
      );
    }
  }
}
