// SPDX-License-Identifier: Apache-2.0
// When a job runs next. Pure; all times are milliseconds since 1970.
import type { Job, JobState } from './job.ts';
import { nextTime, parseSchedule, type Schedule } from './schedule.ts';

const RETRY_MS = 60_000;
const RETRY_MS_MAX = 60 * 60_000;

export interface Due {
  at: number;
  /** Of a run that is tried again: when it was due. */
  due?: number;
}

/** Undefined: only when it is told to. */
export function nextRun(job: Job, state: JobState | undefined, now: number): Due | undefined {
  // The manager has died in it.
  if (state && state.ended === undefined) return { at: now, due: state.due };
  const schedule = scheduleOf(job);
  if (!schedule) return undefined;
  if (!state) {
    const first = schedule.kind === 'every' ? job.added : schedule.after(job.added);
    return first === undefined ? undefined : { at: first };
  }
  // A clock that was put back holds nobody up.
  const at = nextTime(schedule, Math.min(state.due, now));
  const retry = retryAt(state, now);
  if (retry !== undefined && (at === undefined || retry < at)) return { at: retry, due: state.due };
  return at === undefined ? undefined : { at };
}

function retryAt({ ended = 0, failures }: JobState, now: number): number | undefined {
  if (failures === 0) return undefined;
  return Math.min(ended, now) + Math.min(RETRY_MS * 2 ** (failures - 1), RETRY_MS_MAX);
}

/** Undefined: it has none, or one that this version cannot read. */
export function scheduleOf({ schedule }: Job): Schedule | undefined {
  if (schedule === undefined) return undefined;
  try {
    return parseSchedule(schedule);
  } catch {
    return undefined;
  }
}
