// SPDX-License-Identifier: Apache-2.0
// Which of a job's snapshots go. Never one that a job has not made; never the newest that both
// sides have, since without it all would have to be sent anew. Pure.
import type { HeldVolume, SourceVolume, StraySnapshot } from './holdings.ts';
import type { Job } from './job.ts';
import { surplus } from './keep.ts';
import { newestCommon } from './plan.ts';

/** How long snapshots stay whose volume was destroyed: it may have been a mistake. */
const STRAY_S = 7 * 86_400;

export interface Expiry {
  job: Job;
  volume: SourceVolume;
  strays: readonly StraySnapshot[];
  /** Its replica; undefined: there is none, or nobody knows. */
  replica: HeldVolume | undefined;
}

/** Keys, at the source. */
export function expiredHere({ job, volume, strays, replica }: Expiry): string[] {
  const sent = volume.sent[job.name];
  // What is there cannot be told, and was never written down.
  if (job.to && !replica && !sent) return [];
  const common = replica && newestCommon(volume, replica);
  const needed = new Set([common?.guid, sent?.done, sent?.begun]);
  const mine = [...volume.snapshots, ...strays.filter(({ of }) => of === volume.uuid)].filter(
    (snapshot) => snapshot.job === job.name,
  );
  return surplus(mine, job.keep)
    .filter(({ guid }) => !needed.has(guid))
    .map(({ name }) => name);
}

/** Keys, at the destination. */
export function expiredThere({ job, volume, replica }: Expiry): string[] {
  if (!replica) return [];
  const there = new Set(volume.snapshots.map(({ guid }) => guid));
  const common = replica.snapshots.findLast(({ guid }) => there.has(guid));
  const mine = replica.snapshots.filter((snapshot) => snapshot.job === job.name);
  return surplus(mine, job.keepThere)
    .filter(({ guid }) => guid !== common?.guid)
    .map(({ name }) => name);
}

/** Keys of snapshots whose volumes are gone. */
export function expiredStrays(
  job: Job,
  volumes: readonly SourceVolume[],
  strays: readonly StraySnapshot[],
  nowS: number,
): string[] {
  const present = new Set(volumes.map(({ uuid }) => uuid));
  return strays
    .filter((stray) => stray.job === job.name && !present.has(stray.of))
    .filter(({ created }) => created < nowS - STRAY_S)
    .map(({ name }) => name);
}
