// SPDX-License-Identifier: Apache-2.0
// Metrics for XAPI: a file that its collector, rrdd, reads every 5 s, written shortly before that.
// rrdd says when; a rrdd that is restarted is told of the file anew, and where there is none there
// is no file either: it would find one that is old, and come back to it later and later.
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '../../log.ts';
import { RrdFile } from './rrd_file.ts';
import { type DataSource, encodeRrd } from './rrd_format.ts';
import { RRDD_SOCKET, RrddClient } from './rrdd_client.ts';

const FOLDER = '/dev/shm/metrics';
const NAME = 'ringdisk';
const READ_EVERY_MS = 5000;
/** So long before it is read a sample is taken: a thousand disks take a tenth of it. */
const LEAD_MS = 500;
/** Sooner than that is too late: the sample is for the reading after it. */
const LEAST_MS = 100;
/** Until rrdd is looked for again. */
const AWAY_MS = 5000;

export interface MetricsOptions {
  readonly take: () => Promise<DataSource[]>;
  readonly log: Logger;
  readonly folder?: string;
  readonly rrddSocket?: string;
}

export class Metrics {
  readonly #take: () => Promise<DataSource[]>;
  readonly #log: Logger;
  readonly #file: RrdFile;
  readonly #rrdd: RrddClient;
  readonly #socket: string;
  readonly #stop = new AbortController();
  readonly #over: Promise<void>;
  #isTold = false;
  /** Said once, not every 5 s. */
  #problem: string | undefined;

  constructor({ take, log, folder = FOLDER, rrddSocket = RRDD_SOCKET }: MetricsOptions) {
    this.#take = take;
    this.#log = log;
    this.#socket = rrddSocket;
    this.#file = new RrdFile(folder, NAME);
    this.#rrdd = new RrddClient(rrddSocket);
    this.#over = this.#run();
  }

  /** For an operator; undefined: all is well, or there is no rrdd. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** rrdd is told, and its file is gone. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#over;
    if (existsSync(this.#socket)) await this.#rrdd.deregister(NAME).catch(() => {});
    this.#forget();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    // What a manager before has left: rrdd has given up reading it by now.
    this.#forget();
    while (!signal.aborted) {
      const wait = existsSync(this.#socket) ? await this.#tell() : this.#noRrdd();
      await sleep(wait, undefined, { signal }).catch(() => {});
    }
  }

  #noRrdd(): number {
    this.#forget();
    this.#problem = undefined;
    return AWAY_MS;
  }

  /** How long to wait for the next one, in milliseconds. */
  async #tell(): Promise<number> {
    try {
      // The file must be there when rrdd is told of it.
      this.#file.write(encodeRrd(await this.#take(), Date.now() / 1000));
      const wait = untilSample((await this.#rrdd.register(NAME)) * 1000);
      if (!this.#isTold) this.#log.info({ socket: this.#socket }, 'XAPI gets metrics');
      this.#isTold = true;
      this.#problem = undefined;
      return wait;
    } catch (error) {
      const { message } = error as Error;
      if (message !== this.#problem) this.#log.warn({ err: error }, 'XAPI gets no metrics');
      this.#problem = message;
      this.#forget();
      return AWAY_MS;
    }
  }

  #forget(): void {
    this.#isTold = false;
    try {
      this.#file.remove();
    } catch (error) {
      this.#log.warn({ err: error }, 'a file of metrics stays');
    }
  }
}

/** `ms`: until rrdd reads, or since when it is late. */
export function untilSample(ms: number): number {
  const wait = ms - LEAD_MS;
  const next = wait < LEAST_MS ? wait + READ_EVERY_MS : wait;
  return next < LEAST_MS || next > READ_EVERY_MS ? READ_EVERY_MS : next;
}
