// SPDX-License-Identifier: Apache-2.0
// The limit of ZFS's cache on the manager's control socket, in MiB.
import * as v from 'valibot';
import type { HandlersOf } from '../control/method_table.ts';
import { type Arc, ArcError, type ArcState, inMib } from '../zfs/arc.ts';
import { ManagerError } from './manager_types.ts';

const MIB = 1024 ** 2;
const mib = v.pipe(v.number(), v.safeInteger(), v.minValue(1));

const State = v.object({
  memoryMib: v.number(),
  suggestedMib: v.number(),
  /** As the module has it; missing where it is not loaded. */
  loaded: v.exactOptional(v.object({ sizeMib: v.number(), limitMib: v.number() })),
  /** For the module's next start; missing: as ZFS has it, or another file says. */
  kept: v.exactOptional(v.object({ file: v.string(), limitMib: v.number() })),
  warnings: v.array(v.string()),
});
export type WireArc = v.InferOutput<typeof State>;

const result = v.object({ arc: State });

export const ARC_METHODS = {
  arc: { params: v.object({}), result },
  /** `mib` missing: takes back what was set. */
  setArc: { params: v.object({ mib: v.optional(mib) }), result },
} as const;

export function arcHandlers(arc: Arc): HandlersOf<typeof ARC_METHODS> {
  return {
    arc: async () => ({ arc: toWire(await explained(async () => arc.read())) }),
    setArc: async ({ mib: limit }) => {
      const change = () => (limit === undefined ? arc.unset() : arc.set(limit * MIB));
      return { arc: toWire(await explained(change)) };
    },
  };
}

async function explained<T>(body: () => Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (error) {
    const { message } = error as Error;
    const why = error instanceof ArcError ? message : `ZFS's cache cannot be limited: ${message}`;
    throw new ManagerError('ARC_INVALID', why, { cause: error });
  }
}

function toWire({ memoryBytes, suggestedBytes, loaded, kept, warnings }: ArcState): WireArc {
  return {
    memoryMib: inMib(memoryBytes),
    suggestedMib: inMib(suggestedBytes),
    ...(loaded && {
      loaded: { sizeMib: inMib(loaded.sizeBytes), limitMib: inMib(loaded.limitBytes) },
    }),
    ...(kept && { kept: { file: kept.file, limitMib: inMib(kept.bytes) } }),
    warnings,
  };
}
