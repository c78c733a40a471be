// SPDX-License-Identifier: Apache-2.0
// How long a job's snapshots are kept: so many of the newest, and the newest of each of so many
// hours, days, weeks, months and years that have one. Times are UTC, so both sides agree. Pure.
import * as v from 'valibot';

export const KEEP_RULES = ['last', 'hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const;
type Rule = (typeof KEEP_RULES)[number];

const COUNT_MAX = 10_000;
const count = v.exactOptional(
  v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(COUNT_MAX)),
);

/** Without any rule all are kept. */
export const KeepSchema = v.object({
  last: count,
  hourly: count,
  daily: count,
  weekly: count,
  monthly: count,
  yearly: count,
});
export type Keep = v.InferOutput<typeof KeepSchema>;

export const KEEP_DEFAULT: Keep = { last: 4, hourly: 24, daily: 7, weekly: 4 };

/** "last=4,daily=7", or "all". Throws RangeError with a sentence. */
export function parseKeep(text: string): Keep {
  if (text === 'all') return {};
  const keep: Keep = {};
  for (const part of text.split(',')) {
    const [, rule, number] = /^([a-z]+)=(\d{1,5})$/.exec(part.trim()) ?? [];
    const counted = Number(number);
    if (!isRule(rule) || counted < 1 || counted > COUNT_MAX) {
      throw new RangeError(
        `${JSON.stringify(text)} does not say what is kept: give last=N, hourly=N, daily=N, ` +
          `weekly=N, monthly=N or yearly=N, several with commas, N from 1 to ${COUNT_MAX}, or all.`,
      );
    }
    keep[rule] = counted;
  }
  return keep;
}

function isRule(text: string | undefined): text is Rule {
  return (KEEP_RULES as readonly (string | undefined)[]).includes(text);
}

export function formatKeep(keep: Keep): string {
  const parts = KEEP_RULES.flatMap((rule) => (keep[rule] ? [`${rule}=${keep[rule]}`] : []));
  return parts.join(',') || 'all';
}

/** Those that no rule keeps; `created` in seconds since 1970. */
export function surplus<T extends { created: number }>(snapshots: readonly T[], keep: Keep): T[] {
  if (KEEP_RULES.every((rule) => keep[rule] === undefined)) return [];
  const newestFirst = [...snapshots].sort((one, other) => other.created - one.created);
  const kept = new Set<T>(newestFirst.slice(0, keep.last ?? 0));
  for (const rule of KEEP_RULES) {
    if (rule === 'last') continue;
    const seen = new Set<string>();
    for (const snapshot of newestFirst) {
      if (seen.size === (keep[rule] ?? 0)) break;
      const period = periodOf(rule, snapshot.created);
      if (!seen.has(period)) kept.add(snapshot);
      seen.add(period);
    }
  }
  return newestFirst.filter((snapshot) => !kept.has(snapshot));
}

const HOUR = 3600;
const DAY = 24 * HOUR;
/** 1 January 1970 was a Thursday; weeks begin on Mondays. */
const DAYS_BEFORE_1970 = 3;

function periodOf(rule: Exclude<Rule, 'last'>, seconds: number): string {
  const day = Math.floor(seconds / DAY);
  const date = new Date(seconds * 1000);
  switch (rule) {
    case 'hourly':
      return String(Math.floor(seconds / HOUR));
    case 'daily':
      return String(day);
    case 'weekly':
      return String(Math.floor((day + DAYS_BEFORE_1970) / 7));
    case 'monthly':
      return `${date.getUTCFullYear()}-${date.getUTCMonth()}`;
    case 'yearly':
      return String(date.getUTCFullYear());
  }
}
