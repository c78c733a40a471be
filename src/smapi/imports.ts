// SPDX-License-Identifier: Apache-2.0
// Another host's NBD client as XAPI brings it: a descriptor over a socket that we name. Node takes
// no descriptors, so a small process does, one for each; it outlives us, as the client does.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import type { Logger } from '../log.ts';
import { packageRoot } from '../package_root.ts';
import type { ImportedExport } from './datapath.ts';
import { SmapiError } from './errors.ts';
import { PYTHON, type WrittenMarks } from './written_marks.ts';

const PROGRAM = path.join(packageRoot, 'src/smapi/plugin/ringdisk_import.py');

export class Imports {
  readonly #folder: string;
  readonly #written: WrittenMarks;
  readonly #log: Logger;

  constructor(runtimeDir: string, written: WrittenMarks, log: Logger) {
    this.#folder = path.join(runtimeDir, 'import');
    this.#written = written;
    this.#log = log;
  }

  /** Where XAPI sends the descriptor of a client for the export. */
  async expect({ socket, name, size, volume }: ImportedExport): Promise<string> {
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
    const place = path.join(this.#folder, `${randomBytes(8).toString('hex')}.sock`);
    const words = [PROGRAM, place, socket, name, this.#written.file(volume), String(size)];
    const child = spawn(PYTHON, ['-IS', ...words], {
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#log.warn({ export: name, said: text.trim().slice(0, 500) }, 'an import has ended');
    });
    await new Promise<void>((resolve, reject) => {
      const fail = (why: string) =>
        reject(new SmapiError('SR_BACKEND_FAILURE', ['', 'IMPORT', why]));
      child.once('error', (error) => fail(error.message));
      child.once('exit', (status) => fail(`its process ended with ${status}`));
      child.stdout.once('data', () => resolve());
    });
    child.stdout.destroy();
    child.unref();
    return place;
  }
}
