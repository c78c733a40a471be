// SPDX-License-Identifier: Apache-2.0
// Dirty bitmaps: what of a medium was written since when. They belong to the medium, not to a VBD:
// whatever is written through this daemon, by a guest or by NBD clients, is marked.
//
// A bitmap is complete for as long as the medium is held for writing without a gap, by this daemon
// or by one that died and whose disk is taken over. Once it is let go of anybody might write to it:
// then its bitmaps are inconsistent, which means that all may have changed.
//
// Files change so that a death at any moment leaves a bitmap that is complete or is none: a new one
// gets its name when all who write mark it; the one that it replaces is marked until then.
import type { BitmapState } from '../datapath/binding.ts';
import type { OpenTarget } from '../datapath/datapath.ts';
import { RingdiskError, showValue } from '../errors.ts';
import type { Logger } from '../log.ts';
import { dirtyExtents, type Extents, hasMissed, type RawBits, rawBits } from './bitmap_dump.ts';
import { BitmapFiles, type Found, type Prepared } from './bitmap_files.ts';
import { checkName, granularityFor, mayKeep } from './bitmap_shape.ts';

/** Each costs every write a look. */
const BITMAPS_MAX = 16;

/** An open medium, as its disk shows it. */
export interface Medium {
  readonly identity: string;
  /** Bytes. */
  readonly capacity: number;
}

/** Who has media open: open_targets.ts. */
export interface Media {
  /** All who can write to it. */
  writers(identity: string): readonly Pick<OpenTarget, 'track'>[];
  isHeld(identity: string): boolean;
  /** Of what is open under other names and lies on the same medium: a file and its loop devices. */
  otherNames(identity: string): readonly string[];
}

/** JSON-able. Sizes in bytes. */
export interface BitmapInfo {
  readonly name: string;
  readonly state: BitmapState;
  /** 0: its file tells nothing. */
  readonly granularity: number;
  readonly dirtyBytes: number;
  /** NBD clients can read it. */
  readonly exported: boolean;
  /** Why it is inconsistent. */
  readonly error?: string;
}

export interface PinnedBitmap {
  readonly name: string;
  readonly path: string;
  release(): void;
}

export class Bitmaps {
  readonly #files: BitmapFiles;
  readonly #media: Media;
  readonly #log: Logger;
  /** By medium: what is being done, one thing at a time. */
  readonly #turns = new Map<string, Promise<unknown>>();
  /** By path: how many exports tell of it. */
  readonly #pins = new Map<string, number>();

  constructor(runtimeDir: string, media: Media, log: Logger) {
    this.#files = new BitmapFiles(runtimeDir);
    this.#media = media;
    this.#log = log;
  }

  /** Before anything is opened, when it is known which disks of a daemon before are to go on. */
  begin(): void {
    for (const identity of this.#files.tidy()) {
      if (!this.#media.isHeld(identity)) this.released(identity);
    }
  }

  /** A medium was opened for writing; nobody may write before this is over. Never rejects. */
  opened(identity: string, target: Pick<OpenTarget, 'track'>): Promise<void> | undefined {
    for (const other of this.#media.otherNames(identity)) {
      // What is written under one name the other's bitmaps miss.
      this.#declareInconsistent(other);
      this.#declareInconsistent(identity);
    }
    if (!this.#turns.has(identity) && this.#files.names(identity).length === 0) return undefined;
    return this.#inTurn(identity, async () => {
      try {
        await target.track(this.#recording(identity));
      } catch (error) {
        this.#log.error({ err: error, medium: identity }, 'its bitmaps cannot be gone on with');
        this.#declareInconsistent(identity);
      }
    });
  }

  /** Nobody holds it any more. */
  released(identity: string): void {
    this.#declareInconsistent(identity);
  }

  list(medium: Medium): BitmapInfo[] {
    return this.#files.names(medium.identity).map((name) => this.#info(medium, name));
  }

  /** Throws BITMAP_INVALID or BITMAP_REFUSED. */
  async add(
    medium: Medium,
    name: string,
    options: { granularity?: number | undefined; disabled?: boolean | undefined } = {},
  ): Promise<BitmapInfo> {
    const { identity, capacity } = medium;
    checkName(name);
    const granularity = granularityFor(capacity, options.granularity);
    return this.#inTurn(identity, async () => {
      const names = this.#files.names(identity);
      if (names.includes(name)) throw refused(`There is a bitmap ${name} already.`);
      if (names.length >= BITMAPS_MAX) {
        throw refused(`The disk has ${BITMAPS_MAX} bitmaps already: remove one first.`);
      }
      await this.#put(medium, name, granularity, options.disabled ? 'disabled' : 'recording');
      return this.#info(medium, name);
    });
  }

  /** From now on what is written is marked. */
  enable(medium: Medium, name: string): Promise<BitmapInfo> {
    return this.#change(medium, name, async ({ state }) => {
      if (state === 'recording') return;
      await this.#track(medium.identity, this.#files.path(medium.identity, name));
      this.#files.setState(medium.identity, name, 'recording');
    });
  }

  /** It stays as it is. */
  disable(medium: Medium, name: string): Promise<BitmapInfo> {
    return this.#change(medium, name, async () => {
      // In this order: whoever dies in between has not missed anything that it promises.
      this.#files.setState(medium.identity, name, 'disabled');
      await this.#track(medium.identity);
    });
  }

  /** Nothing is marked, from now on. One that was inconsistent is complete again. */
  async clear(medium: Medium, name: string): Promise<BitmapInfo> {
    const { identity, capacity } = medium;
    return this.#inTurn(identity, async () => {
      const found = this.#find(medium, name);
      this.#refuseExported(identity, name);
      const known = 'problem' in found ? undefined : found;
      const state = known?.state === 'disabled' ? 'disabled' : 'recording';
      const kept = known && mayKeep(capacity, known.granularity) ? known.granularity : undefined;
      await this.#put(medium, name, granularityFor(capacity, kept), state);
      return this.#info(medium, name);
    });
  }

  /** What is marked in `from` is marked in `into` as well. */
  merge(medium: Medium, into: string, from: string): Promise<BitmapInfo> {
    return this.#change(medium, into, async ({ granularity }) => {
      const other = this.#complete(medium, from);
      if (other.granularity !== granularity) {
        throw refused(
          `${from} has a granularity of ${other.granularity} bytes, ${into} one of ` +
            `${granularity}: only bitmaps of one granularity can be merged.`,
        );
      }
      this.#files.merge(medium.identity, into, from);
    });
  }

  async remove({ identity, capacity }: Medium, name: string): Promise<void> {
    await this.#inTurn(identity, async () => {
      this.#find({ identity, capacity }, name);
      this.#refuseExported(identity, name);
      this.#files.remove(identity, name);
      await this.#track(identity);
    });
  }

  /** From byte `from` of the disk on. */
  extents(medium: Medium, name: string, from: number): Extents & { info: BitmapInfo } {
    const found = this.#find(medium, name);
    const file = this.#files.path(medium.identity, name);
    const extents = dirtyExtents(file, found, medium.capacity, from);
    return { ...extents, info: this.#info(medium, name) };
  }

  /** From byte `from` of the bits on. */
  raw(medium: Medium, name: string, from: number): RawBits {
    const found = this.#find(medium, name);
    return rawBits(this.#files.path(medium.identity, name), found, medium.capacity, from);
  }

  /** For an export: neither cleared nor removed before it is released. */
  pin(medium: Medium, name: string): PinnedBitmap {
    this.#complete(medium, name);
    const path = this.#files.path(medium.identity, name);
    this.#pins.set(path, (this.#pins.get(path) ?? 0) + 1);
    let isHeld = true;
    const release = () => {
      if (isHeld) this.#pins.set(path, (this.#pins.get(path) ?? 1) - 1);
      isHeld = false;
    };
    return { name, path, release };
  }

  /** A new file in that place, once all who write mark it. */
  async #put(
    { identity, capacity }: Medium,
    name: string,
    granularity: number,
    state: 'recording' | 'disabled',
  ): Promise<void> {
    const others = this.#media.otherNames(identity);
    if (others.length > 0) {
      throw refused(
        `The medium is open as ${others.map(showValue).join(' and ')} as well: a bitmap would ` +
          'miss what is written there.',
      );
    }
    const prepared = this.#prepare(identity, name, capacity, granularity);
    try {
      if (state === 'recording') await this.#track(identity, prepared.path);
      else prepared.setState(state);
      prepared.put();
    } catch (error) {
      prepared.discard();
      await this.#track(identity).catch(() => {});
      throw refused(`The bitmap cannot be used: ${(error as Error).message}.`);
    }
    // What it replaced is marked no longer.
    await this.#track(identity);
  }

  #prepare(identity: string, name: string, capacity: number, granularity: number): Prepared {
    try {
      return this.#files.prepare(identity, name, capacity, granularity);
    } catch (error) {
      throw refused(`The bitmap cannot be made: ${(error as Error).message}.`);
    }
  }

  /** All who write mark those that record, and `also`. */
  async #track(identity: string, ...also: string[]): Promise<void> {
    const paths = [...new Set([...this.#recording(identity), ...also])];
    await Promise.all(this.#media.writers(identity).map((target) => target.track(paths)));
  }

  #recording(identity: string): string[] {
    return this.#files.names(identity).flatMap((name) => {
      const found = this.#files.look(identity, name, 0);
      const records = !('problem' in found) && found.state === 'recording';
      return records ? [this.#files.path(identity, name)] : [];
    });
  }

  #declareInconsistent(identity: string): void {
    for (const name of this.#files.names(identity)) {
      const found = this.#files.look(identity, name, 0);
      if ('problem' in found || found.state !== 'recording') continue;
      this.#files.setState(identity, name, 'inconsistent');
      this.#log.warn({ bitmap: name, medium: identity }, 'the bitmap is inconsistent from now on');
    }
  }

  /** Of one that is complete. */
  #change(
    medium: Medium,
    name: string,
    step: (found: Exclude<Found, { problem: string }>) => Promise<void>,
  ): Promise<BitmapInfo> {
    return this.#inTurn(medium.identity, async () => {
      await step(this.#complete(medium, name));
      return this.#info(medium, name);
    });
  }

  #find({ identity, capacity }: Medium, name: string): Found {
    if (!this.#files.names(identity).includes(name)) {
      throw new RingdiskError(
        'BITMAP_UNKNOWN',
        `The disk has no bitmap ${showValue(name)}. Bitmaps end with the host: after it was ` +
          'started anew, all of a disk counts as changed.',
      );
    }
    return this.#files.look(identity, name, capacity);
  }

  #complete(medium: Medium, name: string): Exclude<Found, { problem: string }> {
    const found = this.#find(medium, name);
    if (!('problem' in found) && !hasMissed(found)) return found;
    throw refused(
      `The bitmap ${name} is inconsistent (${whyInconsistent(found)}): all of the disk counts as ` +
        'changed. Back all of it up and clear the bitmap.',
    );
  }

  #refuseExported(identity: string, name: string): void {
    if (!this.#isExported(identity, name)) return;
    throw refused(`The bitmap ${name} is exported: end that export first.`);
  }

  #isExported(identity: string, name: string): boolean {
    return (this.#pins.get(this.#files.path(identity, name)) ?? 0) > 0;
  }

  #info({ identity, capacity }: Medium, name: string): BitmapInfo {
    const found = this.#files.look(identity, name, capacity);
    const exported = this.#isExported(identity, name);
    if ('problem' in found) {
      const { problem: error } = found;
      const lost = { state: 'inconsistent', granularity: 0, dirtyBytes: capacity } as const;
      return { name, ...lost, exported, error };
    }
    const { state, granularity } = found;
    const dirtyBytes = hasMissed(found) ? capacity : found.dirtyBytes;
    const error = hasMissed(found) ? { error: whyInconsistent(found) } : {};
    return { name, state, granularity, dirtyBytes, exported, ...error };
  }

  async #inTurn<T>(identity: string, step: () => Promise<T>): Promise<T> {
    const before = this.#turns.get(identity) ?? Promise.resolve();
    const current = before.then(step, step);
    const settled = current.then(
      () => {},
      () => {},
    );
    this.#turns.set(identity, settled);
    void settled.then(() => {
      if (this.#turns.get(identity) === settled) this.#turns.delete(identity);
    });
    return current;
  }
}

function whyInconsistent(found: Found): string {
  if ('problem' in found) return found.problem;
  return 'the medium was let go of, or open under another name, since';
}

function refused(message: string): RingdiskError {
  return new RingdiskError('BITMAP_REFUSED', message);
}
