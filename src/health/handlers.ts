// SPDX-License-Identifier: Apache-2.0
// From the manager's control socket to the health of its pools.
import type { HandlersOf } from '../control/method_table.ts';
import type { VolumeMethods } from '../volume/manage_protocol.ts';
import type { Health } from './health.ts';
import { type HEALTH_METHODS, toWireHealth } from './wire.ts';

type PoolStatus = HandlersOf<VolumeMethods>['poolStatus'];

/** A pool's status has with it what is known of its health. */
export function healthHandlers(
  health: Health,
  poolStatus: PoolStatus,
): HandlersOf<typeof HEALTH_METHODS> & { poolStatus: PoolStatus } {
  return {
    health: async () => toWireHealth(await health.report()),
    poolStatus: async (params) => {
      const { status } = await poolStatus(params);
      const { health: known, events } = await health.of(status.pool);
      return { status: { ...status, events, smart: known?.smart ?? [] } };
    },
  };
}
