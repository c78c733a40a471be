// SPDX-License-Identifier: Apache-2.0
// One run of a job: snapshots of all its volumes, then each brought up to date at the destination,
// then the snapshots that nobody keeps destroyed. A volume that fails costs no other.
//
// What if the manager dies here? Nothing but snapshots and what has arrived is left, and both are
// found by the next run: it takes no second snapshot for the same time, and goes on where the
// stream broke.
import { setImmediate as yieldToOthers } from 'node:timers/promises';
import type { Logger } from '../log.ts';
import { decodeRecord, encodeRecord, PROPERTY } from '../volume/properties.ts';
import {
  type Destination,
  type DestinationServices,
  destinationOf,
  destroySnapshot,
} from './destination.ts';
import {
  type HeldVolume,
  type Holdings,
  readHoldings,
  type Sent,
  type SourceVolume,
} from './holdings.ts';
import { type Job, jobId } from './job.ts';
import { replicaOf } from './plan.ts';
import type { Progress } from './progress.ts';
import { replicate } from './replicate.ts';
import { expiredHere, expiredStrays, expiredThere } from './retention.ts';

export interface RunServices extends DestinationServices {
  log: Logger;
  /** Milliseconds since 1970. */
  now(): number;
}

export interface RunWish {
  job: Job;
  /** Milliseconds since 1970: snapshots from then on are this run's. */
  due: number;
  /** Forgets what was written to replicas. */
  force: boolean;
  signal: AbortSignal;
  progress: Progress;
}

/** All of it is in `progress` when this resolves. */
export async function runJob(services: RunServices, wish: RunWish): Promise<void> {
  await new Run(services, wish).all();
}

class Run {
  readonly #services: RunServices;
  readonly #wish: RunWish;
  readonly #destination: Destination | undefined;
  #holdings: Holdings = { volumes: [], strays: [] };
  /** Undefined: it cannot be told. */
  #held: HeldVolume[] | undefined;

  constructor(services: RunServices, wish: RunWish) {
    this.#services = services;
    this.#wish = wish;
    this.#destination = destinationOf(services, wish.job);
  }

  async all(): Promise<void> {
    const { job, progress } = this.#wish;
    this.#holdings = await readHoldings(this.#services.context, job.pool);
    progress.volumes = this.#sources().length;
    await this.#takeSnapshots();
    if (this.#destination) await this.#sendAll(this.#destination);
    else progress.volumesDone = progress.volumes;
    if (!this.#wish.signal.aborted) await this.#expire();
  }

  /** A replica is somebody else's to change: the same job on both of two hosts goes no circles. */
  #sources(): SourceVolume[] {
    const { volumes } = this.#wish.job;
    return this.#holdings.volumes.filter(
      ({ uuid, arriving, replicaOf: writer }) =>
        uuid !== undefined &&
        !arriving &&
        writer === undefined &&
        (volumes === undefined || volumes.includes(uuid)),
    );
  }

  #problem(subject: string, error: unknown): void {
    const { progress, job, signal } = this.#wish;
    const why = (error instanceof Error ? error.message : String(error)).replace(/\s+/g, ' ');
    progress.addProblem(`${subject}: ${why}`);
    if (!signal.aborted) {
      this.#services.log.debug({ err: error, job: jobId(job), subject }, 'a part of a job failed');
    }
  }

  async #takeSnapshots(): Promise<void> {
    const { job, due, signal } = this.#wish;
    const found = new Set(this.#holdings.volumes.map(({ uuid }) => uuid));
    for (const uuid of job.volumes ?? []) {
      if (!found.has(uuid)) this.#problem(uuid, new Error(`${job.pool} has no such volume`));
    }
    const isDone = ({ snapshots }: SourceVolume) =>
      snapshots.some((one) => one.job === job.name && one.created >= Math.floor(due / 1000));
    const name = `${job.name}-${stamp(this.#services.now())}`;
    for (const volume of this.#sources().filter((one) => !isDone(one))) {
      if (signal.aborted) return;
      const wish = { name, job: job.name };
      await this.#services.manager
        .snapshotVolume(job.pool, volume.key, wish)
        .catch((error) => this.#problem(volume.key, error));
    }
    this.#holdings = await readHoldings(this.#services.context, job.pool);
  }

  async #sendAll(destination: Destination): Promise<void> {
    const { job, progress, signal } = this.#wish;
    try {
      this.#held = await destination.read();
    } catch (error) {
      this.#problem(destination.pool, error);
    }
    for (const volume of this.#sources()) {
      // What it holds is told by asking only: if it does not answer, that is said once.
      if (!this.#held || signal.aborted) return;
      progress.begin(volume.key);
      const held = this.#held;
      try {
        this.#held = await this.#send(destination, volume, held);
        progress.volumesDone++;
      } catch (error) {
        this.#problem(`${job.pool}/${volume.key}`, error);
        this.#held = await this.#readAgain(destination);
      }
      await yieldToOthers();
    }
  }

  async #readAgain(destination: Destination): Promise<HeldVolume[] | undefined> {
    try {
      return await destination.read();
    } catch (error) {
      this.#problem(destination.pool, error);
      return undefined;
    }
  }

  async #send(
    destination: Destination,
    volume: SourceVolume,
    held: HeldVolume[],
  ): Promise<HeldVolume[]> {
    const note = (sent: Sent) => this.#note(volume, sent);
    return replicate(this.#services, { ...this.#wish, destination, volume, held, note });
  }

  /** With the volume, for a time when the destination cannot be asked. */
  async #note(volume: SourceVolume, change: Sent): Promise<void> {
    const { context } = this.#services;
    const { job } = this.#wish;
    const { dataset, key } = volume;
    await context.changeVolume(job.pool, key, async () => {
      const { own } = await context.look(job.pool, dataset);
      const all = decodeRecord(own.get(PROPERTY.sent), dataset);
      await context.zfs.set(dataset, {
        [PROPERTY.sent]: encodeRecord({ ...all, [job.name]: change }),
      });
    });
    volume.sent = { ...volume.sent, [job.name]: change };
  }

  async #expire(): Promise<void> {
    const { job, progress } = this.#wish;
    const { volumes, strays } = this.#holdings;
    const destroyHere = async (key: string) => {
      await destroySnapshot(this.#services.manager, job.pool, key, job.name);
      progress.destroyed++;
    };
    for (const volume of this.#sources()) {
      const replica = this.#held && replicaOf(volume, this.#held);
      const expiry = { job, volume, strays, replica };
      const here = expiredHere(expiry);
      const there = expiredThere(expiry);
      try {
        for (const key of here) await destroyHere(key);
        if (replica && there.length > 0) await this.#destination?.destroy(replica.key, there);
        progress.destroyed += there.length;
      } catch (error) {
        this.#problem(`old snapshots of ${job.pool}/${volume.key}`, error);
      }
    }
    try {
      const gone = expiredStrays(job, volumes, strays, this.#services.now() / 1000);
      for (const key of gone) await destroyHere(key);
    } catch (error) {
      this.#problem('snapshots of volumes that are gone', error);
    }
  }
}

/** 20261130T020000Z */
function stamp(ms: number): string {
  return new Date(ms).toISOString().replace(/[-:]|\.\d+/g, '');
}
