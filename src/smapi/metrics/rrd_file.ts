// SPDX-License-Identifier: Apache-2.0
// The file that rrdd reads. rrdd maps it once, when it has been told of it: so it never changes its
// size or its place, and one that takes another's place would not be seen.
import {
  closeSync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { VALUES } from './rrd_format.ts';

/** On tmpfs, of which it uses what is written: some four thousand disks. */
const FILE_BYTES = 16 * 1024 * 1024;
/** rrdd passes over files that are called so. */
const UNFINISHED = '.tmp';

export class RrdFile {
  readonly #place: string;
  #fd: number | undefined;

  /** `folder`: rrdd's, in which it looks for files. */
  constructor(folder: string, name: string) {
    this.#place = path.join(folder, name);
  }

  /** Throws where there is no room, or `content` is too long. */
  write(content: Buffer): void {
    if (content.length > FILE_BYTES) {
      throw new RangeError(`metrics of ${content.length} bytes: ${FILE_BYTES} are the most`);
    }
    const fd = this.#fd;
    if (fd !== undefined && this.#isInPlace(fd)) {
      // Whoever reads in between finds checksums that are wrong, and reads again later.
      writeSync(fd, content, VALUES, content.length - VALUES, VALUES);
      writeSync(fd, content, 0, VALUES, 0);
    } else this.#make(content);
  }

  /** rrdd sees it go, and forgets it. Also that of a process before, and where there is none. */
  remove(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
    rmSync(this.#place, { force: true });
  }

  /** Whole from the beginning: rrdd may look at once. */
  #make(content: Buffer): void {
    this.remove();
    mkdirSync(path.dirname(this.#place), { recursive: true, mode: 0o775 });
    const unfinished = this.#place + UNFINISHED;
    const fd = openSync(unfinished, 'w', 0o600);
    try {
      ftruncateSync(fd, FILE_BYTES);
      writeSync(fd, content);
      renameSync(unfinished, this.#place);
    } catch (error) {
      closeSync(fd);
      rmSync(unfinished, { force: true });
      throw error;
    }
    this.#fd = fd;
  }

  #isInPlace(fd: number): boolean {
    const there = statSync(this.#place, { throwIfNoEntry: false });
    return there?.ino === fstatSync(fd).ino;
  }
}
