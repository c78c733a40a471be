// SPDX-License-Identifier: Apache-2.0
// All jobs of the host's pools: kept in ZFS, run when they are due, one run of each at a time and
// few of all.
import type { Logger } from '../log.ts';
import type { Context } from '../volume/context.ts';
import { ManagerError, type VolumeManager } from '../volume/manager_types.ts';
import { isDown } from '../volume/pools.ts';
import { oncePerCommand } from '../zfs/command.ts';
import type { StartProcess } from '../zfs/process.ts';
import { Zfs } from '../zfs/zfs.ts';
import { Zpool } from '../zfs/zpool.ts';
import { type Due, nextRun } from './due.ts';
import { type AddJob, addJob, allowJob, removeJobAnd } from './edit_jobs.ts';
import type { HostKey } from './host_key.ts';
import { type Job, type JobState, jobId } from './job.ts';
import { readJobs, writeState } from './job_store.ts';
import { Progress } from './progress.ts';
import { runJob } from './run.ts';

const RUNNING_MAX = 2;
/** Pools come and go, also by other programs. */
const RELOAD_MS = 60_000;
const TICK_MS_MAX = 60_000;
/** What does not end by then is left to the kernel. */
const CLOSE_MS = 5000;

export interface JobsOptions {
  context: Context;
  manager: VolumeManager;
  start: StartProcess;
  hostKey: HostKey;
  log: Logger;
  now?: () => number;
}

export interface JobInfo {
  job: Job;
  /** False: it has come with its pool from elsewhere, and is not run here. */
  isAllowed: boolean;
  state: 'idle' | 'waiting' | 'running';
  /** Milliseconds since 1970; missing: when it is told to. */
  next?: number;
  /** The run that has ended last. */
  last?: JobState;
  progress?: Progress;
  /** Of the run that goes on. */
  began?: number;
}

export interface Unreadable {
  /** Missing: not even the pools can be listed. */
  pool?: string;
  reason: string;
}

interface Waiting {
  due: number;
  force: boolean;
}

interface Running {
  progress: Progress;
  began: number;
  abort: AbortController;
  /** An operator has said so: it is not tried again before it is due. */
  isStopped: boolean;
  ended: Promise<void>;
}

interface Known {
  job: Job;
  state: JobState | undefined;
}

export class Jobs {
  readonly #options: JobsOptions;
  readonly #now: () => number;
  readonly #zfs: Zfs;
  readonly #zpool: Zpool;
  /** By "tank/nightly", as all that follow. */
  #known = new Map<string, Known>();
  #unreadable: Unreadable[] = [];
  readonly #waiting = new Map<string, Waiting>();
  readonly #running = new Map<string, Running>();
  /** Of runs of this process: newer than what ZFS was asked for a moment before. */
  readonly #states = new Map<string, JobState>();
  #loadedAt = Number.NEGATIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(options: JobsOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
    const run = oncePerCommand(options.context.run);
    this.#zfs = new Zfs(run);
    this.#zpool = new Zpool(run);
  }

  /** Runs what is due from now on. */
  start(): void {
    void this.#loop();
  }

  /** What runs is cut off, and gone on with by the next manager. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    for (const { abort } of this.#running.values()) abort.abort();
    const all = Promise.all([...this.#running.values()].map(({ ended }) => ended));
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise((resolve) => {
      timer = setTimeout(resolve, CLOSE_MS);
    });
    await Promise.race([all, late]);
    clearTimeout(timer);
  }

  /** As they are in ZFS now. What cannot be read is told, and what was known of it before. */
  async list(): Promise<{ jobs: JobInfo[]; unreadable: Unreadable[] }> {
    await this.reload();
    return {
      jobs: [...this.#known.keys()].map((id) => this.#info(id)),
      unreadable: this.#unreadable,
    };
  }

  async add(wish: AddJob): Promise<{ info: JobInfo; warnings: string[] }> {
    const id = jobId(wish);
    if (this.#running.has(id)) throw new ManagerError('JOB_RUNNING', `the job ${id} runs just now`);
    const { job, warnings } = await addJob(this.#options, wish, this.#now());
    await this.reload();
    if (this.#timer) void this.#loop();
    return { info: await this.show(jobId(job)), warnings };
  }

  /** A job that has come with its pool is run here from now on. */
  async allow(id: string): Promise<JobInfo> {
    await this.reload();
    await allowJob(this.#options, this.#need(id).job);
    await this.reload();
    if (this.#timer) void this.#loop();
    return this.#info(id);
  }

  /** `snapshots`: those that it has made go as well, but for those at the destination. */
  async remove(id: string, snapshots: boolean): Promise<{ left: number; destroyed: number }> {
    const { job } = await this.stop(id);
    const done = await removeJobAnd(this.#options, job, snapshots);
    this.#states.delete(id);
    await this.reload();
    return done;
  }

  /** Throws JOB_UNKNOWN. */
  async show(id: string): Promise<JobInfo> {
    if (!this.#known.has(id)) await this.reload();
    this.#need(id);
    return this.#info(id);
  }

  /** Throws JOB_RUNNING; without a schedule to wait for it begins as soon as it may. */
  async run(id: string, force: boolean): Promise<JobInfo> {
    await this.reload();
    this.#refuseStrange(this.#need(id));
    if (this.#running.has(id)) throw new ManagerError('JOB_RUNNING', `the job ${id} runs already`);
    this.#waiting.set(id, { due: this.#now(), force });
    this.#startThoseThatMay();
    return this.#info(id);
  }

  /** What has arrived stays, and is gone on with. Done also where it does not run. */
  async stop(id: string): Promise<JobInfo> {
    await this.show(id);
    this.#waiting.delete(id);
    const running = this.#running.get(id);
    if (running) {
      running.isStopped = true;
      running.abort.abort();
      await running.ended;
    }
    return this.#info(id);
  }

  async reload(): Promise<void> {
    const before = this.#known;
    const known = new Map<string, Known>();
    const unreadable: Unreadable[] = [];
    const keep = (pool?: string) => {
      for (const [id, one] of before) {
        if (pool === undefined || one.job.pool === pool) known.set(id, one);
      }
    };
    try {
      for (const { name, health } of await this.#zpool.list()) {
        try {
          if (isDown(health)) throw new Error(`the pool ${name} does no I/O`);
          unreadable.push(...(await this.#load(name, known)));
        } catch (error) {
          unreadable.push({ pool: name, reason: (error as Error).message });
          keep(name);
        }
      }
    } catch (error) {
      unreadable.push({ reason: (error as Error).message });
      keep();
    }
    this.#known = known;
    this.#unreadable = unreadable;
    this.#loadedAt = performance.now();
  }

  async #load(pool: string, known: Map<string, Known>): Promise<Unreadable[]> {
    const { jobs, states, broken } = await readJobs(this.#zfs, pool);
    for (const job of jobs) {
      const [kept, mine] = [states.get(job.name), this.#states.get(jobId(job))];
      // A pool that was elsewhere meanwhile has seen later runs.
      const state = mine && mine.began >= (kept?.began ?? 0) ? mine : kept;
      known.set(jobId(job), { job, state });
    }
    return broken.map((reason) => ({ pool, reason }));
  }

  #need(id: string): Known {
    const known = this.#known.get(id);
    if (known) return known;
    throw new ManagerError(
      'JOB_UNKNOWN',
      `there is no job ${id}; ringdisk volume job list tells which there are`,
    );
  }

  #isAllowed({ job }: Known): boolean {
    return this.#options.hostKey.isSealed(job);
  }

  #refuseStrange(known: Known): void {
    if (this.#isAllowed(known)) return;
    const { job } = known;
    const { to } = job;
    const command = to?.via ? `, which runs "${to.via.join(' ')}",` : '';
    throw new ManagerError(
      'JOB_INVALID',
      `the job ${jobId(job)}${command} was added on another host: if it is to run here, ` +
        `ringdisk volume job allow ${jobId(job)}`,
    );
  }

  #info(id: string): JobInfo {
    const known = this.#need(id);
    const { job, state } = known;
    const running = this.#running.get(id);
    const isAllowed = this.#isAllowed(known);
    const next = running || !isAllowed ? undefined : nextRun(job, state, this.#now())?.at;
    return {
      job,
      isAllowed,
      state: running ? 'running' : this.#waiting.has(id) ? 'waiting' : 'idle',
      ...(next !== undefined && { next }),
      ...(state?.ended !== undefined && { last: state }),
      ...(running && { progress: running.progress, began: running.began }),
    };
  }

  async #loop(): Promise<void> {
    await this.tick();
    if (this.#isClosed) return;
    const now = this.#now();
    const waits = [...this.#known.keys()].map((id) => (this.#dueOf(id)?.at ?? Infinity) - now);
    // At least a second, whatever the clock does.
    const ms = Math.max(Math.min(TICK_MS_MAX, ...waits), 1000);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#loop(), ms);
  }

  /** Begins what is due. */
  async tick(): Promise<void> {
    try {
      if (performance.now() - this.#loadedAt >= RELOAD_MS) await this.reload();
      this.#queueWhatIsDue();
      this.#startThoseThatMay();
    } catch (error) {
      this.#options.log.error({ err: error }, 'replication jobs');
    }
  }

  #dueOf(id: string): Due | undefined {
    if (this.#running.has(id) || this.#waiting.has(id)) return undefined;
    const known = this.#need(id);
    if (!this.#isAllowed(known)) return undefined;
    return nextRun(known.job, known.state, this.#now());
  }

  #queueWhatIsDue(): void {
    const now = this.#now();
    for (const id of this.#known.keys()) {
      const due = this.#dueOf(id);
      if (due && due.at <= now) this.#waiting.set(id, { due: due.due ?? now, force: false });
    }
  }

  #startThoseThatMay(): void {
    for (const [id, waiting] of this.#waiting) {
      if (this.#running.size >= RUNNING_MAX || this.#isClosed) return;
      this.#waiting.delete(id);
      const known = this.#known.get(id);
      if (known && this.#isAllowed(known)) this.#begin(id, known, waiting);
    }
  }

  #begin(id: string, known: Known, { due, force }: Waiting): void {
    const running: Running = {
      progress: new Progress(),
      began: this.#now(),
      abort: new AbortController(),
      isStopped: false,
      ended: Promise.resolve(),
    };
    this.#running.set(id, running);
    running.ended = this.#carryOut(known, running, { due, force }).finally(() => {
      this.#running.delete(id);
      this.#startThoseThatMay();
    });
  }

  async #carryOut(known: Known, running: Running, { due, force }: Waiting): Promise<void> {
    const { job, state: before } = known;
    const { progress, abort, began } = running;
    const counts = () => {
      const { problems, bytes, volumes, volumesDone, destroyed } = progress;
      return { problems, bytes, volumes, volumesDone, destroyed };
    };
    const failures = before?.failures ?? 0;
    await this.#keep(known, { due, began, failures, ...counts() });
    try {
      const wish = { job, due, force, signal: abort.signal, progress };
      await runJob({ ...this.#options, now: this.#now }, wish);
    } catch (error) {
      progress.addProblem((error as Error).message.replace(/\s+/g, ' '));
    }
    // It goes on when a manager is there again.
    if (this.#isClosed) return;
    const isWell = progress.problems.length === 0;
    const again = running.isStopped || isWell ? 0 : progress.bytes > 0 ? 1 : failures + 1;
    await this.#keep(known, { due, began, ended: this.#now(), failures: again, ...counts() });
    this.#say(job, running, isWell);
  }

  async #keep(known: Known, state: JobState): Promise<void> {
    const id = jobId(known.job);
    this.#states.set(id, state);
    const current = this.#known.get(id);
    if (current) current.state = state;
    try {
      await writeState(this.#options.context, known.job, state);
    } catch (error) {
      this.#options.log.warn({ err: error, job: jobId(known.job) }, 'a job ran, which is not kept');
    }
  }

  #say(job: Job, { progress, began }: Running, isWell: boolean): void {
    const { problems, problemsMore, bytes, volumes, volumesDone, destroyed } = progress;
    const seconds = Math.round((this.#now() - began) / 1000);
    const fields = { job: jobId(job), volumes, volumesDone, bytes, destroyed, seconds };
    const { log } = this.#options;
    if (isWell) log.info(fields, 'a replication job has ended well');
    else log.error({ ...fields, problems, problemsMore }, 'a replication job has failed');
  }
}
