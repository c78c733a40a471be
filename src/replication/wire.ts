// SPDX-License-Identifier: Apache-2.0
// Jobs on the manager's control socket. Times are seconds since 1970.
import * as v from 'valibot';
import { HeldVolume } from './holdings.ts';
import { type JobState, VIA_WORDS_MAX } from './job.ts';
import type { JobInfo } from './jobs.ts';
import { formatKeep } from './keep.ts';
import { Labels } from './labels.ts';

const text = v.pipe(v.string(), v.maxLength(4096));
const words = v.pipe(v.array(text), v.maxLength(VIA_WORDS_MAX));

const Run = v.object({
  began: v.number(),
  /** Of all streams, as they went. */
  bytes: v.number(),
  volumes: v.number(),
  volumesDone: v.number(),
  /** Snapshots, here and at the destination. */
  destroyed: v.number(),
});

const WireJob = v.object({
  /** POOL/NAME */
  job: v.string(),
  pool: v.string(),
  name: v.string(),
  /** UUIDs; missing: all. */
  volumes: v.exactOptional(v.array(v.string())),
  to: v.exactOptional(v.object({ pool: v.string(), via: v.exactOptional(v.array(v.string())) })),
  schedule: v.exactOptional(v.string()),
  keep: v.string(),
  keepThere: v.string(),
  rate: v.exactOptional(v.number()),
  /** False: it has come with its pool from another host, and is not run here. */
  allowed: v.boolean(),
  state: v.picklist(['idle', 'waiting', 'running']),
  next: v.exactOptional(v.number()),
  last: v.exactOptional(
    v.object({
      ...Run.entries,
      ended: v.number(),
      ok: v.boolean(),
      problems: v.array(v.string()),
      /** One after the other, without any progress. */
      failures: v.number(),
    }),
  ),
  running: v.exactOptional(
    v.object({
      ...Run.entries,
      problems: v.array(v.string()),
      volume: v.exactOptional(v.string()),
      snapshot: v.exactOptional(v.string()),
      /** Of the snapshot that is being sent. */
      stepBytes: v.number(),
      stepBytesTotal: v.exactOptional(v.number()),
    }),
  ),
});
export type WireJob = v.InferOutput<typeof WireJob>;

const job = v.object({ job: WireJob });
const which = { job: text } as const;

export const JOB_METHODS = {
  addJob: {
    params: v.object({
      ...which,
      volumes: v.optional(v.pipe(v.array(text), v.maxLength(1024))),
      to: v.optional(v.object({ pool: text, via: v.exactOptional(words) })),
      schedule: v.optional(text),
      keep: v.optional(text),
      keepThere: v.optional(text),
      rate: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1))),
      replace: v.optional(v.boolean()),
    }),
    result: v.object({ job: WireJob, warnings: v.array(v.string()) }),
  },
  listJobs: {
    params: v.object({}),
    result: v.object({
      jobs: v.array(WireJob),
      /** Pools whose jobs cannot be told now; without a pool: there may be others. */
      unreadable: v.array(v.object({ pool: v.exactOptional(v.string()), reason: v.string() })),
    }),
  },
  showJob: { params: v.object(which), result: job },
  runJob: { params: v.object({ ...which, force: v.optional(v.boolean()) }), result: job },
  stopJob: { params: v.object(which), result: job },
  allowJob: { params: v.object(which), result: job },
  removeJob: {
    params: v.object({ ...which, snapshots: v.optional(v.boolean()) }),
    /** Its snapshots, at the source. */
    result: v.object({ left: v.number(), destroyed: v.number() }),
  },
  /** For jobs of other managers, and people: what a pool holds, also what is still arriving. */
  receiving: {
    params: v.object({ pool: text }),
    result: v.object({ volumes: v.array(HeldVolume) }),
  },
  labelReplica: {
    params: v.object({ pool: text, key: text, snapshot: text, labels: Labels }),
    result: v.object({}),
  },
} as const;

const seconds = (ms: number) => Math.floor(ms / 1000);

export function toWireJob(info: JobInfo): WireJob {
  const { job: kept, isAllowed, state, next, last, progress, began } = info;
  const { added: _, seal: __, keep, keepThere, ...others } = kept;
  return {
    job: `${kept.pool}/${kept.name}`,
    ...others,
    keep: formatKeep(keep),
    keepThere: formatKeep(keepThere),
    allowed: isAllowed,
    state,
    ...(next !== undefined && { next: seconds(next) }),
    ...(last && { last: toWireRun(last) }),
    ...(progress && { running: { began: seconds(began ?? 0), ...toWireProgress(progress) } }),
  };
}

function toWireRun(state: JobState): NonNullable<WireJob['last']> {
  const { due: _, began, ended = began, ...counts } = state;
  const ok = state.problems.length === 0;
  return { ...counts, began: seconds(began), ended: seconds(ended), ok };
}

function toWireProgress(progress: NonNullable<JobInfo['progress']>) {
  const { bytes, volumes, volumesDone, destroyed, problems, stepBytes } = progress;
  const { volume, snapshot, stepBytesTotal } = progress;
  return {
    ...{ bytes, volumes, volumesDone, destroyed, problems, stepBytes },
    ...(volume !== undefined && { volume }),
    ...(snapshot !== undefined && { snapshot }),
    ...(stepBytesTotal !== undefined && { stepBytesTotal }),
  };
}
