// SPDX-License-Identifier: Apache-2.0
// Another host's NBD client as XAPI brings it: a descriptor over a socket that we name. Node takes
// no descriptors, so a small process does, one for each; it outlives us, as the client does.
// systemd starts it where it listens for that, so that what ends with our unit is not it; else we.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { connect } from 'node:net';
import path from 'node:path';
import type { Readable } from 'node:stream';
import type { Logger } from '../log.ts';
import { packageRoot } from '../package_root.ts';
import type { ImportedExport } from './datapath.ts';
import { SmapiError } from './errors.ts';
import { PYTHON, type WrittenMarks } from './written_marks.ts';

export const IMPORT_PROGRAM = 'ringdisk_import.py';
const PROGRAM = path.join(packageRoot, 'src/smapi/plugin', IMPORT_PROGRAM);
/** As ringdisk-import.socket has it. */
export const IMPORT_SOCKET = '/run/ringdisk-import.sock';
/** An interpreter is started, on a host that may be busy. */
const READY_MS = 30_000;

export class Imports {
  readonly #folder: string;
  readonly #written: WrittenMarks;
  readonly #log: Logger;
  readonly #service: string;

  constructor(runtimeDir: string, written: WrittenMarks, log: Logger, service = IMPORT_SOCKET) {
    this.#folder = path.join(runtimeDir, 'import');
    this.#written = written;
    this.#log = log;
    this.#service = service;
  }

  /** Where XAPI sends the descriptor of a client for the export. */
  async expect({ socket, name, size, volume }: ImportedExport): Promise<string> {
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
    const place = path.join(this.#folder, `${randomBytes(8).toString('hex')}.sock`);
    const words = [place, socket, name, this.#written.file(volume), String(size)];
    try {
      if (!(await this.#byService(words))) await this.#byOurselves(words, name);
    } catch (error) {
      throw new SmapiError('SR_BACKEND_FAILURE', ['', 'IMPORT', (error as Error).message]);
    }
    return place;
  }

  /** false: nobody listens for it. */
  async #byService(words: readonly string[]): Promise<boolean> {
    const asked = connect(this.#service);
    try {
      await new Promise<void>((resolve, reject) => {
        asked.once('connect', resolve);
        asked.once('error', reject);
      });
    } catch (error) {
      const { code = '' } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT' || code === 'ECONNREFUSED') return false;
      throw error;
    }
    asked.write(`${words.join('\0')}\n`);
    await untilReady(asked);
    asked.destroy();
    return true;
  }

  async #byOurselves(words: readonly string[], name: string): Promise<void> {
    const child = spawn(PYTHON, ['-IS', PROGRAM, ...words], {
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#log.warn({ export: name, said: text.trim().slice(0, 500) }, 'an import has ended');
    });
    const failed = new Promise<never>((_, reject) => child.once('error', reject));
    await Promise.race([untilReady(child.stdout), failed]);
    child.unref();
  }
}

/** Rejects where it ends before it is. */
async function untilReady(said: Readable): Promise<void> {
  const signal = AbortSignal.timeout(READY_MS);
  await new Promise<void>((resolve, reject) => {
    said.once('data', () => resolve());
    said.once('error', reject);
    said.once('close', () => reject(new Error('its process has ended; its log says why')));
    signal.onabort = () => reject(new Error(`its process is not ready after ${READY_MS / 1000} s`));
  });
  said.destroy();
}
