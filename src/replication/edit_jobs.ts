// SPDX-License-Identifier: Apache-2.0
// Jobs are added and removed: what is wrong with one is said before it is kept.
import type { Context } from '../volume/context.ts';
import { ManagerError, type VolumeManager } from '../volume/manager_types.ts';
import { checkPoolName } from '../volume/names.ts';
import { type DestinationServices, destinationOf, destroySnapshot } from './destination.ts';
import { readHoldings } from './holdings.ts';
import type { HostKey } from './host_key.ts';
import { isJobName, JOBS_MAX, type Job, jobId } from './job.ts';
import { readJobs, removeJob, writeJob } from './job_store.ts';
import { KEEP_DEFAULT, parseKeep } from './keep.ts';
import { parseSchedule } from './schedule.ts';

export interface AddJob {
  pool: string;
  name: string;
  /** Keys; missing: all volumes of the pool. */
  volumes?: string[];
  to?: { pool: string; via?: string[] };
  schedule?: string;
  /** As words, see keep.ts. */
  keep?: string;
  /** Default: as `keep`. */
  keepThere?: string;
  /** Bytes a second. */
  rate?: number;
  /** In the place of one with that name; its snapshots stay its own. */
  replace?: boolean;
}

export interface EditServices extends DestinationServices {
  hostKey: HostKey;
}

/** The job, and what an operator should know of it. */
export async function addJob(
  services: EditServices,
  wish: AddJob,
  now: number,
): Promise<{ job: Job; warnings: string[] }> {
  const { context, manager, hostKey } = services;
  const { pool } = await manager.statPool(wish.pool);
  const job = await checkedJob(manager, { ...wish, pool }, now);
  await context.alone(pool, async () => {
    const { jobs } = await readJobs(context.zfs, pool);
    const known = jobs.find(({ name }) => name === job.name);
    if (known && !wish.replace) {
      throw new ManagerError('JOB_EXISTS', `there is a job ${jobId(job)}; --replace changes it`);
    }
    if (!known && jobs.length >= JOBS_MAX) throw invalid(`${pool} has ${JOBS_MAX} jobs already`);
    await writeJob(context, hostKey.sealed(known ? { ...job, added: known.added } : job));
  });
  return { job, warnings: await warningsOf(services, job) };
}

/** A job that has come with its pool is run here from now on, as it is. */
export async function allowJob({ context, hostKey }: EditServices, job: Job): Promise<void> {
  await context.alone(job.pool, () => writeJob(context, hostKey.sealed(job)));
}

async function checkedJob(manager: VolumeManager, wish: AddJob, added: number): Promise<Job> {
  const { pool, name, to, schedule, rate } = wish;
  if (!isJobName(name)) {
    throw invalid(
      `${JSON.stringify(name)} cannot be the name of a job: up to 48 small letters, digits, ` +
        'dots, dashes and underlines, the first a letter or a digit',
    );
  }
  if (to && !to.via) await checkPoolHere(manager, pool, to.pool);
  if (to?.via) checkPoolName(to.pool);
  const volumes = wish.volumes && (await uuidsOf(manager, pool, wish.volumes));
  return valid(() => {
    if (schedule !== undefined) parseSchedule(schedule);
    const keep = wish.keep === undefined ? KEEP_DEFAULT : parseKeep(wish.keep);
    const keepThere = wish.keepThere === undefined ? keep : parseKeep(wish.keepThere);
    return {
      pool,
      name,
      ...(volumes && { volumes }),
      ...(to && { to }),
      ...(schedule !== undefined && { schedule }),
      ...(rate !== undefined && { rate }),
      keep,
      keepThere,
      added,
    };
  });
}

async function checkPoolHere(manager: VolumeManager, from: string, to: string): Promise<void> {
  const { pool } = await manager.statPool(to);
  if (pool === from) throw invalid(`volumes of ${from} are sent to another pool, not to itself`);
}

async function uuidsOf(manager: VolumeManager, pool: string, keys: string[]): Promise<string[]> {
  const uuids = new Set<string>();
  for (const key of keys) {
    const { kind, uuid, replicaOf } = await manager.statVolume(pool, key);
    if (kind !== 'volume') throw invalid(`${pool}/${key} is a ${kind}: jobs send volumes`);
    if (replicaOf !== undefined) {
      throw invalid(`${pool}/${key} is a replica, which the job ${replicaOf} writes`);
    }
    uuids.add(uuid);
  }
  return [...uuids];
}

function valid<T>(body: () => T): T {
  try {
    return body();
  } catch (error) {
    if (error instanceof RangeError) throw invalid(error.message);
    throw error;
  }
}

function invalid(why: string): ManagerError {
  return new ManagerError('JOB_INVALID', why);
}

/** Another host may be down just now: that is no reason not to keep the job. */
async function warningsOf(services: DestinationServices, job: Job): Promise<string[]> {
  if (!job.to?.via) return [];
  try {
    await destinationOf(services, job)?.read();
    return [];
  } catch (error) {
    return [`${job.to.pool} cannot be asked now: ${(error as Error).message}`];
  }
}

/** What it has made stays where it is, unless it is to go: here, never at the destination. */
export async function removeJobAnd(
  { context, manager }: { context: Context; manager: VolumeManager },
  job: Job,
  snapshots: boolean,
): Promise<{ left: number; destroyed: number }> {
  const { volumes, strays } = await readHoldings(context, job.pool);
  const all = [...volumes.flatMap((volume) => volume.snapshots), ...strays];
  const mine = new Set(all.filter((one) => one.job === job.name).map(({ name }) => name));
  // The job last: whoever dies in this can be told again.
  for (const key of snapshots ? mine : []) {
    await destroySnapshot(manager, job.pool, key, job.name);
  }
  await removeJob(context, job);
  return snapshots ? { left: 0, destroyed: mine.size } : { left: mine.size, destroyed: 0 };
}
