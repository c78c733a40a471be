// SPDX-License-Identifier: Apache-2.0
// A replication job: what is sent where, when, and how long its snapshots are kept. Pure.
import * as v from 'valibot';
import { KeepSchema } from './keep.ts';

/** Of one pool; more are a mistake of a script. */
export const JOBS_MAX = 64;
export const VIA_WORDS_MAX = 64;

/** A part of a property's name in ZFS, which has no capitals. */
const NAME = /^[a-z0-9][a-z0-9._-]{0,47}$/;

const word = v.pipe(v.string(), v.minLength(1), v.maxLength(1024));
const pool = v.pipe(v.string(), v.minLength(1), v.maxLength(100));

/** As it is kept in a property of its pool's store, under its name. */
export const KeptJob = v.object({
  /** UUIDs of volumes; missing: all of the pool that are no replicas. */
  volumes: v.exactOptional(v.array(v.string())),
  /** Missing: its snapshots stay where they are made. */
  to: v.exactOptional(
    v.object({
      pool,
      /** A command that runs `ringdisk` where that pool is, word by word; missing: it is here. */
      via: v.exactOptional(v.pipe(v.array(word), v.minLength(1), v.maxLength(VIA_WORDS_MAX))),
    }),
  ),
  /** See schedule.ts; missing: it runs when it is told to. */
  schedule: v.exactOptional(v.string()),
  keep: KeepSchema,
  /** Of what is kept at the destination. */
  keepThere: KeepSchema,
  /** Bytes a second. */
  rate: v.exactOptional(v.pipe(v.number(), v.integer(), v.minValue(1))),
  /** Milliseconds since 1970: from then on its schedule counts. */
  added: v.number(),
  /** Of the host that runs it, see host_key.ts. */
  seal: v.exactOptional(v.string()),
});

export interface Job extends v.InferOutput<typeof KeptJob> {
  /** Whose volumes it sends, and whose store keeps it. */
  pool: string;
  name: string;
}

export function isJobName(name: string): boolean {
  return NAME.test(name);
}

/** "tank/nightly" */
export function jobId({ pool: of, name }: { pool: string; name: string }): string {
  return `${of}/${name}`;
}

export function isJobId(text: string): boolean {
  const [of = '', name = '', ...more] = text.split('/');
  return /^[A-Za-z][A-Za-z0-9_.:-]{0,99}$/.test(of) && isJobName(name) && more.length === 0;
}

/** What is known of a job's last run, and of the one that it is due for. */
export const JobState = v.object({
  /** When the run was due; a run that failed is tried again for the same time. Milliseconds. */
  due: v.number(),
  began: v.number(),
  /** Missing: it goes on, or the manager has died in it. */
  ended: v.exactOptional(v.number()),
  /** Runs that have failed one after the other without any progress. */
  failures: v.number(),
  /** Sentences; empty: all went well. */
  problems: v.array(v.string()),
  bytes: v.number(),
  volumes: v.number(),
  volumesDone: v.number(),
  destroyed: v.number(),
});
export type JobState = v.InferOutput<typeof JobState>;
