// SPDX-License-Identifier: Apache-2.0
// Jobs, and how their last runs went, as properties of the store whose volumes they send: they
// outlive the manager and the host, and go where the pool goes.
import * as v from 'valibot';
import type { Context } from '../volume/context.ts';
import { explained } from '../volume/failures.ts';
import { ManagerError } from '../volume/manager_types.ts';
import { storeOf } from '../volume/names.ts';
import { decodeRecord, encodeRecord } from '../volume/properties.ts';
import type { Zfs } from '../zfs/zfs.ts';
import { isZfsError } from '../zfs/zfs_error.ts';
import { type Job, JobState, KeptJob } from './job.ts';

const JOB = 'ringdisk:job:';
const RAN = 'ringdisk:ran:';

export interface StoredJobs {
  jobs: Job[];
  /** By name. */
  states: Map<string, JobState>;
  /** Sentences on what cannot be read. */
  broken: string[];
}

/** None where the pool has no store. */
export async function readJobs(zfs: Zfs, pool: string): Promise<StoredJobs> {
  const store = storeOf(pool);
  const stored: StoredJobs = { jobs: [], states: new Map(), broken: [] };
  const properties = await explained('pool', `the jobs of ${pool} cannot be read`, async () => {
    try {
      return (await zfs.get(store, { properties: ['all'] })).get(store);
    } catch (error) {
      if (isZfsError(error, 'unknown')) return undefined;
      throw error;
    }
  });
  for (const [property, { value, source }] of properties ?? []) {
    if (source !== 'local' && source !== 'received') continue;
    if (property.startsWith(JOB)) takeJob(stored, pool, property.slice(JOB.length), value);
    if (property.startsWith(RAN)) takeState(stored, property.slice(RAN.length), value);
  }
  return stored;
}

function takeJob(stored: StoredJobs, pool: string, name: string, value: string): void {
  const parsed = v.safeParse(KeptJob, readRecord(value));
  if (parsed.success) stored.jobs.push({ ...parsed.output, pool, name });
  else {
    stored.broken.push(
      `${JOB}${name} of ${storeOf(pool)} is no job of this version (${parsed.issues[0].message})`,
    );
  }
}

/** One that cannot be read is as none: the job runs once more. */
function takeState({ states }: StoredJobs, name: string, value: string): void {
  const parsed = v.safeParse(JobState, readRecord(value));
  if (parsed.success) states.set(name, parsed.output);
}

function readRecord(value: string): unknown {
  try {
    return decodeRecord(value, '');
  } catch {
    return undefined;
  }
}

export async function writeJob(context: Context, { pool, name, ...job }: Job): Promise<void> {
  const doing = `the job ${pool}/${name} cannot be kept`;
  let value: string;
  try {
    value = encodeRecord(job);
  } catch (error) {
    const { message } = error as Error;
    throw new ManagerError('JOB_INVALID', `${doing}: name fewer volumes, or none (${message})`);
  }
  await explained('pool', doing, () => context.zfs.set(storeOf(pool), { [JOB + name]: value }));
}

export async function writeState(
  context: Context,
  { pool, name }: Job,
  state: JobState,
): Promise<void> {
  await explained('pool', `how the job ${pool}/${name} went cannot be kept`, () =>
    context.zfs.set(storeOf(pool), { [RAN + name]: encodeRecord(state) }),
  );
}

/** Its state first: a job without one is a new job. */
export async function removeJob(context: Context, { pool, name }: Job): Promise<void> {
  await explained('pool', `the job ${pool}/${name} cannot be removed`, async () => {
    await context.zfs.inherit(storeOf(pool), RAN + name);
    await context.zfs.inherit(storeOf(pool), JOB + name);
  });
}
