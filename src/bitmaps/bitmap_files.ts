// SPDX-License-Identifier: Apache-2.0
// Where dirty bitmaps are kept: one file each, below the runtime directory, named after the medium
// whose writes are marked in it. A file says itself whose it is and what its state is, so that
// there is nothing besides it that could say something else. They go with the host.
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { type BitmapLook, type BitmapState, native } from '../datapath/binding.ts';
import { encodeText } from '../text.ts';

const FILE = /^([0-9a-f]{32})\.([A-Za-z0-9][A-Za-z0-9._-]{0,63})$/;
/** Of one that is not complete yet; no bitmap's name begins so. */
const UNFINISHED = 'new-';

/** What is known of a file that may be anything. */
export type Found = BitmapLook | { readonly problem: string };

export class BitmapFiles {
  readonly #folder: string;

  constructor(runtimeDir: string) {
    this.#folder = path.join(runtimeDir, 'bitmaps');
  }

  /** Of one medium, sorted. */
  names(identity: string): string[] {
    const key = keyOf(identity);
    const found = this.#list().flatMap((file) => {
      const [, owner, name] = FILE.exec(file) ?? [];
      return owner === key && name !== undefined ? [name] : [];
    });
    return found.sort();
  }

  path(identity: string, name: string): string {
    return path.join(this.#folder, `${keyOf(identity)}.${name}`);
  }

  /** `bytes`: the size of the disk as it is now. */
  look(identity: string, name: string, bytes: number): Found {
    const found = lookAt(this.path(identity, name), bytes);
    if ('problem' in found || found.label === identity) return found;
    return { problem: 'its file is that of another disk' };
  }

  /** A new one of that name, not in its place yet. Throws what the data path says. */
  prepare(identity: string, name: string, bytes: number, granularity: number): Prepared {
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
    const place = this.path(identity, name);
    const file = path.join(this.#folder, `${UNFINISHED}${keyOf(identity)}.${name}`);
    rmSync(file, { force: true });
    native.createBitmap(file, bytes, granularity, identity, 'recording');
    return {
      path: file,
      setState: (state) => native.setBitmapState(file, state),
      put: () => renameSync(file, place),
      discard: () => rmSync(file, { force: true }),
    };
  }

  setState(identity: string, name: string, state: BitmapState): void {
    native.setBitmapState(this.path(identity, name), state);
  }

  merge(identity: string, into: string, from: string): void {
    native.mergeBitmap(this.path(identity, into), this.path(identity, from));
  }

  remove(identity: string, name: string): void {
    rmSync(this.path(identity, name), { force: true });
  }

  /** The media that have some, by what their files say; and what a death left is removed. */
  tidy(): Set<string> {
    const owners = new Set<string>();
    for (const file of this.#list()) {
      const place = path.join(this.#folder, file);
      if (file.startsWith(UNFINISHED)) rmSync(place, { force: true });
      const found = FILE.test(file) ? lookAt(place, 0) : undefined;
      if (found && !('problem' in found)) owners.add(found.label);
    }
    return owners;
  }

  #list(): string[] {
    try {
      return readdirSync(this.#folder);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw error;
    }
  }
}

/** A bitmap that is not in its place: whoever dies here has changed nothing. */
export interface Prepared {
  readonly path: string;
  setState(state: BitmapState): void;
  /** In the place of the one before, if there is one. */
  put(): void;
  discard(): void;
}

function lookAt(file: string, bytes: number): Found {
  try {
    return native.lookAtBitmap(file, bytes);
  } catch (error) {
    return { problem: (error as Error).message };
  }
}

function keyOf(identity: string): string {
  return createHash('sha256').update(encodeText(identity)).digest('hex').slice(0, 32);
}
