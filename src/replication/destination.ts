// SPDX-License-Identifier: Apache-2.0
// Where a job sends: a pool that this manager has, or one behind a command, such as ssh, that runs
// `ringdisk` where the pool is.
import * as v from 'valibot';
import type { Context } from '../volume/context.ts';
import { ManagerError, type VolumeManager } from '../volume/manager_types.ts';
import { checkKey, checkPoolName, volumeDataset } from '../volume/names.ts';
import { MINE_ALONE, PROPERTY } from '../volume/properties.ts';
import type { RunningProcess, StartProcess } from '../zfs/process.ts';
import { receiveArguments } from '../zfs/send_arguments.ts';
import { ZfsError } from '../zfs/zfs_error.ts';
import { HeldVolume, readHoldings } from './holdings.ts';
import { type Job, jobId } from './job.ts';
import { type Labels, label } from './labels.ts';

export interface Destination {
  readonly pool: string;
  read(): Promise<HeldVolume[]>;
  /** What takes the stream. */
  receive(key: string, force: boolean): RunningProcess;
  label(key: string, snapshot: string, labels: Labels): Promise<void>;
  /** Of what was cut off, nothing stays. */
  forget(key: string): Promise<void>;
  /** Snapshots that the job has made. */
  destroy(key: string, snapshots: readonly string[]): Promise<void>;
}

export interface DestinationServices {
  context: Context;
  manager: VolumeManager;
  start: StartProcess;
}

/** Undefined: the job sends nothing. */
export function destinationOf(services: DestinationServices, job: Job): Destination | undefined {
  if (!job.to) return undefined;
  const { pool, via } = job.to;
  if (!via) return new PoolHere(services, pool, job);
  return new PoolBehind(services, { pool: checkPoolName(pool), via, job });
}

class PoolHere implements Destination {
  readonly pool: string;
  readonly #services: DestinationServices;
  readonly #job: Job;

  constructor(services: DestinationServices, pool: string, job: Job) {
    this.#services = services;
    this.pool = pool;
    this.#job = job;
  }

  async read(): Promise<HeldVolume[]> {
    // It is there, and does I/O.
    await this.#services.manager.statPool(this.pool);
    return (await readHoldings(this.#services.context, this.pool)).volumes;
  }

  receive(key: string, force: boolean): RunningProcess {
    const dataset = volumeDataset(this.pool, key);
    const settings = { [PROPERTY.replica]: jobId(this.#job) };
    const args = receiveArguments({ dataset, force, without: MINE_ALONE, settings });
    return this.#services.start('zfs', args);
  }

  label(key: string, snapshot: string, labels: Labels): Promise<void> {
    return label(this.#services.context, this.pool, { key, snapshot, labels });
  }

  forget(key: string): Promise<void> {
    return forgetArrival(this.#services.context, this.pool, key);
  }

  async destroy(_key: string, snapshots: readonly string[]): Promise<void> {
    const { manager } = this.#services;
    for (const snapshot of snapshots) {
      await destroySnapshot(manager, this.pool, snapshot, this.#job.name);
    }
  }
}

export async function forgetArrival(context: Context, pool: string, key: string): Promise<void> {
  await context.run('zfs', ['receive', '-A', volumeDataset(pool, key)]);
}

/** Of this job alone, whatever has that key by now. Done also where it is gone. */
export async function destroySnapshot(
  manager: VolumeManager,
  pool: string,
  key: string,
  job: string,
): Promise<void> {
  try {
    const { kind, job: maker } = await manager.statVolume(pool, key);
    if (kind === 'snapshot' && maker === job) await manager.destroyVolume(pool, key);
  } catch (error) {
    if (!(error instanceof ManagerError && error.code === 'VOLUME_UNKNOWN')) throw error;
  }
}

const Receiving = v.object({ result: v.object({ volumes: v.array(HeldVolume) }) });
const Failure = v.object({ error: v.object({ message: v.string() }) });
/** Of names in one command line. */
const DESTROY_MAX = 100;
const DESTROY_MS = 10 * 60_000;

class PoolBehind implements Destination {
  readonly pool: string;
  readonly #services: DestinationServices;
  readonly #via: readonly string[];
  readonly #job: Job;

  constructor(
    services: DestinationServices,
    { pool, via, job }: { pool: string; via: readonly string[]; job: Job },
  ) {
    this.#services = services;
    this.pool = pool;
    this.#via = via;
    this.#job = job;
  }

  async read(): Promise<HeldVolume[]> {
    const text = await this.#run(['receiving', this.pool, '--json']);
    const parsed = v.safeParse(Receiving, parseJson(text));
    if (parsed.success) return parsed.output.result.volumes;
    throw new Error(
      `${this.#via.join(' ')} answers what this version does not expect ` +
        `(${parsed.issues[0].message}): is it the same version of ringdisk?`,
    );
  }

  receive(key: string, force: boolean): RunningProcess {
    const forced = force ? ['--force'] : [];
    const replica = ['--replica', jobId(this.#job)];
    const [program = '', ...args] = this.#words(['receive', this.#name(key), ...replica]);
    return this.#services.start(program, [...args, ...forced]);
  }

  async label(key: string, snapshot: string, labels: Labels): Promise<void> {
    // A shell on the way has nothing to see in it.
    const text = Buffer.from(JSON.stringify(labels)).toString('base64url');
    await this.#run(['receive', this.#name(key), '--label', snapshot, '--labels', text]);
  }

  async forget(key: string): Promise<void> {
    await this.#run(['receive', this.#name(key), '--abort']);
  }

  async destroy(key: string, snapshots: readonly string[]): Promise<void> {
    for (let at = 0; at < snapshots.length; at += DESTROY_MAX) {
      const names = snapshots.slice(at, at + DESTROY_MAX);
      const words = names.map((name) => `${this.#name(key)}@${checkKey(name)}`);
      await this.#run(['destroy', ...words], DESTROY_MS);
    }
  }

  #name(key: string): string {
    // Checks both.
    volumeDataset(this.pool, key);
    return `${this.pool}/${key}`;
  }

  #words(words: readonly string[]): string[] {
    return [...this.#via, 'volume', ...words];
  }

  async #run(words: readonly string[], timeoutMs?: number): Promise<string> {
    const [program = '', ...args] = this.#words(words);
    try {
      return await this.#services.context.run(program, args, timeoutMs ? { timeoutMs } : {});
    } catch (error) {
      if (!(error instanceof ZfsError)) throw error;
      const told = v.safeParse(Failure, parseJson(error.words));
      const words = told.success ? told.output.error.message : error.words;
      throw new Error(`${this.#via.join(' ')}: ${words}`, { cause: error });
    }
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
