// SPDX-License-Identifier: Apache-2.0
// What disks have done since they were looked at last, and all that they have done since we look.
// Pure but for what it remembers.
import { combine, type ServedDisk, sumOf } from './served_disks.ts';
import type { Totals } from './stats_page.ts';

export interface Activity {
  /** Since the last look. */
  readonly since: Totals;
  /** Since we look: it never becomes less, also where a guest connects anew. */
  readonly all: Totals;
  /** At this moment. */
  readonly inFlight: number;
}

interface Known {
  readonly generation: string;
  readonly totals: Totals;
  readonly all: Totals;
}

const add = (a: number, b: number) => a + b;
/** A counter that has become less has begun anew. */
const grown = (now: number, before: number) => (now >= before ? now - before : now);

export class Growth {
  #known: Map<string, Known> | undefined;

  /** By the disk's name. The first look only learns where each stands. */
  look(disks: readonly ServedDisk[]): Map<string, Activity> {
    const before = this.#known;
    const known = new Map<string, Known>();
    const activities = new Map<string, Activity>();
    for (const { name, generation, totals, inFlight } of disks) {
      const last = before?.get(name);
      const since = before ? sinceLast(last, generation, totals) : sumOf([]);
      const all = combine(last?.all ?? sumOf([]), since, add);
      known.set(name, { generation, totals, all });
      activities.set(name, { since, all, inFlight });
    }
    this.#known = known;
    return activities;
  }
}

/** One that was not there has begun from nothing since then. */
function sinceLast(last: Known | undefined, generation: string, totals: Totals): Totals {
  return last?.generation === generation ? combine(totals, last.totals, grown) : totals;
}

/** Of several disks together, whatever comes and goes of them. */
export class SharedGrowth {
  readonly #all = new Map<string, Totals>();

  /** `name` is what they have in common. */
  add(name: string, activities: readonly Activity[]): Activity {
    const since = sumOf(activities.map((activity) => activity.since));
    const all = combine(this.#all.get(name) ?? sumOf([]), since, add);
    this.#all.set(name, all);
    return { since, all, inFlight: activities.reduce((sum, one) => sum + one.inFlight, 0) };
  }
}
