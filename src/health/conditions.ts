// SPDX-License-Identifier: Apache-2.0
// What of a pool somebody has to know, from its status: conditions that last, each with a name that
// stays the same as long as it does. Pure.
import * as v from 'valibot';
import type { PoolStatus, VdevStatus } from '../volume/manager_types.ts';
import { CAPACITY_WARN, FRAGMENTATION_WARN } from '../volume/pool_health.ts';
import { type DiskSmart, smartProblems } from './smart_report.ts';

/** `critical`: data is lost or out of reach, or soon. `warning`: an operator has to look. */
export const SEVERITIES = ['info', 'warning', 'critical'] as const;
export type Severity = (typeof SEVERITIES)[number];

export const KINDS = [
  'pool-unknown',
  'pool-state',
  'disk-state',
  'disk-errors',
  'disk-slow',
  'disk-smart',
  'data-errors',
  'resilver',
  'scrub',
  'spare-used',
  'capacity',
  'space',
  'fragmentation',
  'read-only',
] as const;
export type Kind = (typeof KINDS)[number];

export interface Condition {
  kind: Kind;
  /** A disk, as zpool status names it; missing: the pool. */
  subject?: string;
  severity: Severity;
  /** A sentence. */
  message: string;
}

export const Condition = v.object({
  kind: v.picklist(KINDS),
  subject: v.exactOptional(v.string()),
  severity: v.picklist(SEVERITIES),
  message: v.string(),
});

const CAPACITY_CRITICAL = 90;
/** Percent of what volumes can have. */
const FREE_WARN = 10;
const FREE_CRITICAL = 3;
/** A condition that has begun ends that much later, so that it does not come and go. */
const HYSTERESIS = 2;

export interface Look {
  status: PoolStatus;
  /** What SMART says of the disks that a device of the pool lies on. */
  smartOf(device: string): DiskSmart[];
  /** Disks whose I/O has lately taken far too long. */
  slow: ReadonlySet<string>;
  /** Whether a condition of that kind has begun already. */
  isOn(kind: Kind): boolean;
}

export function conditionsOf(look: Look): Condition[] {
  const { status } = look;
  const roles = Object.values(status.vdevs).flat();
  const leaves = roles.flatMap(leavesOf);
  return [
    ...poolState(status),
    ...dataErrors(status),
    ...leaves.flatMap((leaf) => diskConditions(leaf, look)),
    ...scans(status),
    ...spares(status),
    ...fullness(look),
    ...(status.readOnly ? [info('read-only', `${status.pool} is imported read-only.`)] : []),
  ];
}

function leavesOf(vdev: VdevStatus): VdevStatus[] {
  return vdev.children.length === 0 ? [vdev] : vdev.children.flatMap(leavesOf);
}

function info(kind: Kind, message: string): Condition {
  return { kind, severity: 'info', message };
}

function poolState({ pool, state, status, action }: PoolStatus): Condition[] {
  if (state === 'ONLINE') return [];
  const severity = state === 'DEGRADED' ? 'warning' : 'critical';
  const why = [status, action].filter((text) => text !== undefined).join(' ');
  return [{ kind: 'pool-state', severity, message: `${pool} is ${state}. ${why}`.trim() }];
}

function dataErrors({ pool, errors }: PoolStatus): Condition[] {
  if (errors === '' || /^No known data errors/.test(errors)) return [];
  return [{ kind: 'data-errors', severity: 'critical', message: `${pool}: ${errors}` }];
}

const WELL = ['ONLINE', 'AVAIL', 'INUSE', ''];

function diskConditions(leaf: VdevStatus, { status, smartOf, slow }: Look): Condition[] {
  const { name: subject, state, readErrors, writeErrors, checksumErrors } = leaf;
  const of = `${subject} of ${status.pool}`;
  const found: Condition[] = [];
  const warn = (kind: Kind, message: string) =>
    found.push({ kind, subject, severity: 'warning', message });
  if (!WELL.includes(state)) warn('disk-state', `${of} is ${state}.`);
  if (readErrors + writeErrors + checksumErrors > 0) {
    warn(
      'disk-errors',
      `${of} has had ${readErrors} read, ${writeErrors} write and ${checksumErrors} checksum ` +
        'errors.',
    );
  }
  if (slow.has(subject)) warn('disk-slow', `${of} has lately taken half a minute for an I/O.`);
  for (const disk of smartOf(subject)) {
    const problems = smartProblems(disk);
    if (problems.length === 0) continue;
    warn('disk-smart', `${disk.device} of ${status.pool}, by SMART: ${problems.join(', ')}.`);
  }
  return found;
}

function scans({ pool, scan = '' }: PoolStatus): Condition[] {
  const [, what] = /^(resilver|scrub) in progress/.exec(scan) ?? [];
  if (what === 'resilver') return [info('resilver', `${pool} is being resilvered.`)];
  if (what === 'scrub') return [info('scrub', `${pool} is being scrubbed.`)];
  return [];
}

function spares({ pool, vdevs }: PoolStatus): Condition[] {
  return vdevs.spare
    .filter(({ state }) => state === 'INUSE')
    .map(({ name: subject }) => ({
      kind: 'spare-used',
      subject,
      severity: 'warning',
      message: `${subject} of ${pool} stands in for a disk that has failed: replace that.`,
    }));
}

function fullness({ status, isOn }: Look): Condition[] {
  const { pool, capacity, fragmentation, freeBytes, totalBytes, reservedBytes } = status;
  // A pool that cannot be read has no figures.
  if (totalBytes === 0) return [];
  const limit = (kind: Kind, at: number) => at - (isOn(kind) ? HYSTERESIS : 0);
  const found: Condition[] = [];
  const add = (kind: Kind, isCritical: boolean, message: string) =>
    found.push({ kind, severity: isCritical ? 'critical' : 'warning', message });
  if (capacity >= limit('capacity', CAPACITY_WARN)) {
    const isCritical = capacity >= CAPACITY_CRITICAL;
    add('capacity', isCritical, `${capacity} % of the raw space of ${pool} is used: it gets slow.`);
  }
  const most = Math.max(totalBytes - reservedBytes, 1);
  const free = Math.floor((100 * freeBytes) / most);
  if (free < FREE_WARN + (isOn('space') ? HYSTERESIS : 0)) {
    add('space', free < FREE_CRITICAL, `${free} % of what volumes of ${pool} can have is left.`);
  }
  if (fragmentation >= limit('fragmentation', FRAGMENTATION_WARN)) {
    add('fragmentation', false, `The free space of ${pool} is fragmented to ${fragmentation} %.`);
  }
  return found;
}
