// SPDX-License-Identifier: Apache-2.0
// The health of pools on the manager's control socket. Times are seconds since 1970.
import * as v from 'valibot';
import { HealthChange, HealthEvent } from './event_log.ts';
import type { HealthReport, PoolHealth } from './health.ts';
import { DiskSmart } from './smart_report.ts';

/** Of a disk of a pool, by its name in the pool's status. */
export const PoolSmart = v.object({ disk: v.string(), ...DiskSmart.entries });

const WirePoolHealth = v.object({
  pool: v.string(),
  guid: v.exactOptional(v.string()),
  /** ZFS's word, where it is told. */
  state: v.exactOptional(v.string()),
  /** Healthy is only what has just said so. */
  verdict: v.picklist(['healthy', 'unhealthy', 'unknown']),
  /** Why it is unknown. */
  reason: v.exactOptional(v.string()),
  /** When it was known last. */
  known: v.exactOptional(v.number()),
  smart: v.array(PoolSmart),
});
export type WirePoolHealth = v.InferOutput<typeof WirePoolHealth>;

export const HEALTH_METHODS = {
  health: {
    params: v.object({}),
    result: v.object({
      at: v.number(),
      /** There is not, or may not be, all of what the host has: why. */
      incomplete: v.exactOptional(v.string()),
      pools: v.array(WirePoolHealth),
      /** What is so now, worst first. An id is the same as long as it is. */
      events: v.array(HealthEvent),
      /** What has changed since the manager began, oldest first; the last ones. */
      changes: v.array(HealthChange),
    }),
  },
} as const;

const seconds = (ms: number) => Math.floor(ms / 1000);

export function toWireHealth({ at, pools, changes, ...others }: HealthReport) {
  return {
    ...others,
    at: seconds(at),
    pools: pools.map(toWirePool),
    changes: [...changes],
  };
}

function toWirePool({ guid, known, ...others }: PoolHealth): WirePoolHealth {
  return {
    ...others,
    ...(guid !== undefined && { guid }),
    ...(known !== undefined && { known: seconds(known) }),
  };
}
