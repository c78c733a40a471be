// SPDX-License-Identifier: Apache-2.0
// Replication jobs as people read them.
import type { WireJob } from '../replication/wire.ts';
import { type Column, formatFields, formatTable } from './table.ts';
import { formatBytes, formatCount } from './units.ts';

const COLUMNS: Column<WireJob>[] = [
  { title: 'JOB', value: ({ job }) => job },
  { title: 'TO', value: ({ to }) => (to ? to.pool + (to.via ? ' (remote)' : '') : '-') },
  { title: 'SCHEDULE', value: ({ schedule }) => schedule ?? '-' },
  { title: 'STATE', value: stateOf },
  { title: 'LAST RUN', value: ({ last }) => (last ? timeOf(last.began) : '-') },
  { title: 'RESULT', value: resultOf },
  { title: 'NEXT', value: ({ next }) => (next === undefined ? '-' : timeOf(next)) },
];

export function formatJobs(jobs: WireJob[]): string {
  return formatTable(COLUMNS, jobs);
}

/** In local time, as schedules are. */
function timeOf(seconds: number): string {
  const date = new Date(seconds * 1000);
  const two = (number: number) => String(number).padStart(2, '0');
  const day = [date.getFullYear(), two(date.getMonth() + 1), two(date.getDate())].join('-');
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

function stateOf({ allowed, state, running }: WireJob): string {
  if (!allowed) return 'not allowed here';
  const share = running && shareOf(running);
  return share === undefined ? state : `${state} ${share} %`;
}

/** Of the volumes, and of the one that is under way; in percent. */
function shareOf(running: NonNullable<WireJob['running']>): number | undefined {
  const { volumes, volumesDone, stepBytes, stepBytesTotal } = running;
  if (volumes === 0) return undefined;
  const step = stepBytesTotal ? Math.min(stepBytes / stepBytesTotal, 1) : 0;
  return Math.floor((100 * Math.min(volumesDone + step, volumes)) / volumes);
}

function resultOf({ last }: WireJob): string {
  if (!last) return '-';
  return last.ok ? `ok, ${formatBytes(last.bytes)}` : `FAILED: ${last.problems[0] ?? ''}`;
}

export function progressLine(job: WireJob): string {
  const { running, state } = job;
  if (!running) return `${job.job}: ${state}`;
  const { volume = '', volumesDone, volumes, stepBytes, stepBytesTotal } = running;
  const of = stepBytesTotal === undefined ? '' : ` of about ${formatBytes(stepBytesTotal)}`;
  return `${job.job}: ${volumesDone}/${volumes} ${volume} ${formatBytes(stepBytes)}${of}`;
}

export function formatJob(job: WireJob): string {
  const { to, schedule, rate, running, last, next, volumes } = job;
  const optional = (name: string, value: string | undefined): [string, string][] =>
    value === undefined || value === '' ? [] : [[name, value]];
  const fields = formatFields([
    ['job', job.job],
    ['volumes', volumes ? volumes.join(' ') : 'all'],
    ['to', to ? to.pool : 'nowhere, snapshots only'],
    ...optional('via', to?.via?.join(' ')),
    ['schedule', schedule ?? 'none'],
    ['keep', job.keep],
    ...optional('keep there', to && job.keepThere),
    ...optional('limit', rate === undefined ? undefined : `${formatBytes(rate)}/s`),
    ['state', stateOf(job)],
    ...optional('progress', running && progressLine(job)),
    ...optional('next run', next === undefined ? undefined : timeOf(next)),
    ...(last ? lastFields(last) : []),
  ]);
  const problems = [...(running?.problems ?? []), ...(running ? [] : (last?.problems ?? []))];
  return [fields, ...problems.map((text) => `! ${text}`)].join('\n');
}

function lastFields(last: NonNullable<WireJob['last']>): [string, string][] {
  const { began, ended, ok, bytes, volumesDone, volumes, destroyed, failures } = last;
  const tries = failures > 1 ? `, ${failures} times in a row` : '';
  return [
    ['last run', `${timeOf(began)}, ${formatCount(ended - began)} s`],
    ['result', ok ? 'ok' : `FAILED${tries}`],
    ['sent', `${formatBytes(bytes)}, ${volumesDone} of ${volumes} volumes`],
    ['destroyed', `${destroyed} snapshots`],
  ];
}
