// SPDX-License-Identifier: Apache-2.0
// How a pool is: ZFS's status, and what ZFS does not say, as sentences. Pure.
import type { StatusReport, VdevNode } from '../zfs/pool_status.ts';
import type { DeviceState, PoolInfo, PoolStatus, VdevStatus } from './manager_types.ts';

/** Beyond this ZFS writes slower, and slower still: little is left in one piece. */
export const CAPACITY_WARN = 80;
export const FRAGMENTATION_WARN = 50;

export function toStatus(info: PoolInfo, report: StatusReport): PoolStatus {
  const { status, action, scan, scanProgress, errors } = report;
  const vdevs = {
    data: report.vdevs.data.map(toVdev),
    log: report.vdevs.log.map(toVdev),
    cache: report.vdevs.cache.map(toVdev),
    special: report.vdevs.special.map(toVdev),
    spare: report.vdevs.spare.map(toVdev),
  };
  const hasErrors = Object.values(vdevs).flat().flatMap(leaves).some(isFaulty);
  return {
    ...info,
    healthy: info.state === 'ONLINE' && !hasErrors && /^No known data errors/.test(errors),
    ...(status && { status }),
    ...(action && { action }),
    ...(scan && { scan }),
    ...(scanProgress !== undefined && { scanProgress }),
    vdevs,
    errors,
    warnings: warningsOf(info, vdevs),
  };
}

function toVdev(node: VdevNode): VdevStatus {
  return { ...node, state: node.state as DeviceState, children: node.children.map(toVdev) };
}

function leaves(vdev: VdevStatus): VdevStatus[] {
  return [vdev, ...vdev.children.flatMap(leaves)];
}

function isFaulty({ state, readErrors, writeErrors, checksumErrors }: VdevStatus): boolean {
  const isWell = ['ONLINE', 'AVAIL', 'INUSE', ''].includes(state);
  return !isWell || readErrors + writeErrors + checksumErrors > 0;
}

function warningsOf(info: PoolInfo, vdevs: PoolStatus['vdevs']): string[] {
  const warnings: string[] = [];
  if (info.capacity >= CAPACITY_WARN) {
    warnings.push(
      `${info.capacity} % of its raw space is used; from ${CAPACITY_WARN} % on it gets slower.`,
    );
  }
  if (info.fragmentation >= FRAGMENTATION_WARN) {
    warnings.push(`Its free space is fragmented to ${info.fragmentation} %.`);
  }
  if (vdevs.spare.some(({ state }) => state === 'INUSE')) {
    warnings.push('A spare stands in for a disk that has failed: replace that.');
  }
  const all = Object.values(vdevs).flat().flatMap(leaves);
  for (const { name, readErrors, writeErrors, checksumErrors } of all) {
    const errors = readErrors + writeErrors + checksumErrors;
    if (errors > 0) warnings.push(`${name} has had ${errors} errors.`);
  }
  if (info.readOnly) warnings.push('It is imported read-only.');
  return warnings;
}
