// SPDX-License-Identifier: Apache-2.0
// A pool that comes from elsewhere brings its jobs, and a job runs a command: whoever has made the
// pool would have this host run it. So a job runs only where it was added or allowed, which a seal
// shows that only this host can make.
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import * as v from 'valibot';
import { replaceFile } from '../replace_file.ts';
import { type Job, KeptJob } from './job.ts';

const FILE = 'host_key';
const KEY_BYTES = 32;

export class HostKey {
  readonly #key: Buffer;

  constructor(key: Buffer = randomBytes(KEY_BYTES)) {
    this.#key = key;
  }

  /** The one that is kept in `folder`, which is made where it is not there. */
  static open(folder: string): HostKey {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const file = path.join(folder, FILE);
    try {
      const key = Buffer.from(readFileSync(file, 'utf8').trim(), 'hex');
      if (key.length === KEY_BYTES) return new HostKey(key);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
    const key = randomBytes(KEY_BYTES);
    replaceFile(file, `${key.toString('hex')}\n`);
    return new HostKey(key);
  }

  /** With this host's seal, in the place of any other. */
  sealed(job: Job): Job {
    return { ...job, seal: this.#sealOf(job).toString('hex') };
  }

  /** Whether this host has sealed it as it is. */
  isSealed(job: Job): boolean {
    const seal = Buffer.from(job.seal ?? '', 'hex');
    const own = this.#sealOf(job);
    return seal.length === own.length && timingSafeEqual(seal, own);
  }

  /** Of all but the pool's name, which may change. */
  #sealOf(job: Job): Buffer {
    // In the schema's order, whatever order the job has.
    const { seal: _, ...kept } = v.parse(KeptJob, job);
    const text = JSON.stringify([job.name, kept]);
    return createHmac('sha256', this.#key).update(text).digest();
  }
}
