// SPDX-License-Identifier: Apache-2.0
// What is left to do in a store: of a call that died between two commands, and of volumes that are
// gone but for their snapshots. Pure; the steps are ZFS commands, each of which is atomic.
//
// A volume that is destroyed while it has snapshots becomes an `old` one. That costs nothing but
// what the snapshots hold, since it is rolled back to the newest. When a clone of a snapshot lives,
// that snapshot and all before it are given to it (promote), so the old one ends as soon as callers
// have destroyed those that are theirs.
//
// Not so where the old one is what its clones are encrypted by: ZFS makes the heir that instead and
// forgets the key, which only its owner has. It stays, with what they share, as long as they do.
import { PROPERTY } from './properties.ts';
import type { DatasetRecord } from './records.ts';
import { isExposed, isVisible } from './records.ts';
import { identitySettings } from './wishes.ts';

export type Step =
  | { do: 'rename'; from: string; to: string }
  | { do: 'identify'; dataset: string; settings: Readonly<Record<string, string>> }
  | { do: 'retire' | 'destroy' | 'defer' | 'promote' | 'rollback' | 'unreserve'; dataset: string };

/** In an order in which they can be done; what they make possible is told by the next look. */
export function unfinishedSteps(records: readonly DatasetRecord[]): Step[] {
  const family = new Family(records);
  return [
    ...records.flatMap((record) => stepsOfNew(record, family)),
    ...records.flatMap((record) => stepsOfReady(record, family)),
    ...records.flatMap(stepsOfBase),
    ...stepsOfOld(records, family),
  ];
}

/** Callers must not be told that such a volume is not there. */
export function isBetweenTwo(records: readonly DatasetRecord[]): boolean {
  const family = new Family(records);
  return records.some(
    ({ name }) =>
      name.role === 'ready' ||
      (name.role === 'new' && !family.get(name.parent.replace(/:new$/, ''))),
  );
}

class Family {
  readonly #byName: Map<string, DatasetRecord>;
  readonly #snapshots = new Map<string, DatasetRecord[]>();
  readonly #clones = new Map<string, DatasetRecord[]>();

  constructor(records: readonly DatasetRecord[]) {
    this.#byName = new Map(records.map((record) => [record.dataset, record]));
    for (const record of records) {
      const { role, parent } = record.name;
      if (role === 'snapshot' || role === 'base') push(this.#snapshots, parent, record);
      if (record.origin !== undefined) push(this.#clones, record.origin, record);
    }
    for (const list of this.#snapshots.values()) list.sort((a, b) => b.createTxg - a.createTxg);
  }

  get(dataset: string): DatasetRecord | undefined {
    return this.#byName.get(dataset);
  }

  /** Newest first. */
  snapshotsOf({ dataset }: DatasetRecord): DatasetRecord[] {
    return this.#snapshots.get(dataset) ?? [];
  }

  clonesOf({ dataset }: DatasetRecord): DatasetRecord[] {
    return this.#clones.get(dataset) ?? [];
  }
}

function push<T>(lists: Map<string, T[]>, key: string, item: T): void {
  const list = lists.get(key);
  if (list) list.push(item);
  else lists.set(key, [item]);
}

/** The renaming that makes it the volume was all that a revert had left, or it had not begun. */
function stepsOfNew({ dataset, name }: DatasetRecord, family: Family): Step[] {
  if (name.role !== 'new') return [];
  const volume = name.parent.replace(/:new$/, '');
  if (family.get(volume)) return [{ do: 'destroy', dataset }];
  return [{ do: 'rename', from: dataset, to: volume }];
}

/** It gets what the volume keeps, while that is there to say it; then its place. */
function stepsOfReady({ dataset, name, own }: DatasetRecord, family: Family): Step[] {
  if (name.role !== 'ready') return [];
  const place = name.parent.replace(/:ready$/, '');
  const volume = family.get(place);
  if (!volume) return [{ do: 'rename', from: dataset, to: place }];
  if (own.get(PROPERTY.uuid) === volume.own.get(PROPERTY.uuid)) {
    return [{ do: 'retire', dataset: place }];
  }
  return [{ do: 'identify', dataset, settings: identitySettings(volume) }];
}

/** It is a clone's alone, and ends with it. */
function stepsOfBase({ dataset, name, deferred }: DatasetRecord): Step[] {
  return name.role === 'base' && !deferred ? [{ do: 'defer', dataset }] : [];
}

function stepsOfOld(records: readonly DatasetRecord[], family: Family): Step[] {
  const steps = records.flatMap((record) => stepsOfOne(record, family));
  // What a promotion changes is looked at anew before the next one.
  const first = steps.findIndex((step) => step.do === 'promote');
  return first === -1 ? steps : steps.slice(0, first + 1);
}

function stepsOfOne(old: DatasetRecord, family: Family): Step[] {
  if (old.name.role !== 'old') return [];
  const snapshots = family.snapshotsOf(old);
  const [newest] = snapshots;
  if (!newest) return [{ do: 'destroy', dataset: old.dataset }];
  // What somebody reads keeps its path.
  const heir = isExposed(old) ? undefined : heirOf(old, snapshots, family);
  if (heir) return [{ do: 'promote', dataset: heir.dataset }];
  const steps: Step[] = [];
  if (old.refreservation > 0) steps.push({ do: 'unreserve', dataset: old.dataset });
  if (old.written > 0) steps.push({ do: 'rollback', dataset: newest.dataset });
  return steps;
}

/** A clone that can have the old one's snapshots, from the newest that has one on. */
function heirOf(
  old: DatasetRecord,
  snapshots: DatasetRecord[],
  family: Family,
): DatasetRecord | undefined {
  if (old.encryptionRoot === old.dataset) return undefined;
  for (const snapshot of snapshots) {
    const alive = family.clonesOf(snapshot).find(({ name }) => name.role === 'volume');
    if (alive) return alive;
  }
  // Among old ones it is worth it only where all goes, and this one ends; else they would take
  // turns for ever.
  const [newest] = snapshots;
  if (newest === undefined || snapshots.some(isVisible)) return undefined;
  return family.clonesOf(newest).find(({ name }) => name.role === 'old');
}
