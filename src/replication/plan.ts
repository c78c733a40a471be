// SPDX-License-Identifier: Apache-2.0
// What is to be done next to bring a volume's replica up to date. Pure: it is asked again after
// each step, and after each break, with what there is then.
import type { HeldVolume, SourceSnapshot, SourceVolume } from './holdings.ts';

export type Step =
  | { do: 'nothing' }
  /** Only an operator can. */
  | { do: 'refuse'; why: string }
  | { do: 'label'; key: string; snapshot: SourceSnapshot }
  | { do: 'resume'; key: string; token: string }
  /** To this volume, which is made where there is none. */
  | { do: 'send'; key: string; from?: SourceSnapshot; to: SourceSnapshot };

export interface PlanFor {
  source: SourceVolume;
  /** All that the destination holds. */
  held: readonly HeldVolume[];
  /** Whose snapshots are sent. */
  job: string;
  /** The destination, for sentences. */
  pool: string;
}

export function nextStep({ source, held, job, pool }: PlanFor): Step {
  const target = replicaOf(source, held);
  if (!target) {
    const taken = held.find(({ key }) => key === source.key);
    if (taken) return refuse(`${pool} has another volume ${source.key}: rename or destroy it`);
  } else {
    const step = unfinishedStep(source, target, pool);
    if (step) return step;
  }
  const key = target?.key ?? source.key;
  const common = target && newestCommon(source, target);
  if (target && !common && target.snapshots.length > 0) {
    return refuse(
      `${pool}/${key} has no snapshot in common with it any more: rename or destroy it there, ` +
        'and it is sent anew',
    );
  }
  const mine = source.snapshots.filter((snapshot) => snapshot.job === job);
  const to = common ? mine.find(({ txg }) => txg > common.txg) : mine.at(-1);
  if (!to) return { do: 'nothing' };
  return { do: 'send', key, to, ...(common && { from: common }) };
}

function refuse(why: string): Step {
  return { do: 'refuse', why };
}

/** By its id, whatever it is called there; what has only begun to arrive may have none yet. */
export function replicaOf(
  source: SourceVolume,
  held: readonly HeldVolume[],
): HeldVolume | undefined {
  const same = held.filter(({ uuid }) => uuid !== undefined && uuid === source.uuid);
  const nameless = ({ key, uuid, arriving }: HeldVolume) =>
    arriving && uuid === undefined && key === source.key;
  return same.find((one) => one.replicaOf !== undefined) ?? same[0] ?? held.find(nameless);
}

function unfinishedStep(source: SourceVolume, target: HeldVolume, pool: string): Step | undefined {
  const { key, token, arriving } = target;
  if (target.replicaOf === undefined && !arriving) {
    return refuse(
      `${pool}/${key} is a volume in its own right, not a replica, and is not written to: ` +
        'destroy it, or send to another pool',
    );
  }
  const nameless = target.snapshots.filter(({ uuid }) => uuid === undefined);
  const snapshot = source.snapshots.find(({ guid }) => nameless.some((one) => one.guid === guid));
  if (snapshot) return { do: 'label', key, snapshot };
  if (token !== undefined) return { do: 'resume', key, token };
  if (arriving) return refuse(`something else is arriving at ${pool}/${key} just now`);
  return undefined;
}

export function newestCommon(source: SourceVolume, target: HeldVolume): SourceSnapshot | undefined {
  const there = new Set(target.snapshots.map(({ guid }) => guid));
  return source.snapshots.findLast(({ guid }) => there.has(guid));
}
