// SPDX-License-Identifier: Apache-2.0
// Names, ids and marks of what is sent. ZFS sends them along, but sets a snapshot's only when all
// of it has arrived, and not at all in a stream that goes on after a break: what is missing then is
// set here.
import * as v from 'valibot';
import type { Context } from '../volume/context.ts';
import { explained } from '../volume/failures.ts';
import { ManagerError } from '../volume/manager_types.ts';
import { snapshotDataset, volumeDataset } from '../volume/names.ts';
import { PROPERTY } from '../volume/properties.ts';
import type { DatasetRecord } from '../volume/records.ts';

const LABELS: readonly string[] = [
  PROPERTY.uuid,
  PROPERTY.name,
  PROPERTY.description,
  PROPERTY.keys,
  PROPERTY.sharable,
  PROPERTY.cbt,
  PROPERTY.of,
  PROPERTY.from,
  PROPERTY.job,
];

/** Properties as they are in ZFS, by their names. */
export type LabelValues = Record<string, string>;

/** ZFS's own limit, and nothing that breaks a line. */
const value = v.pipe(v.string(), v.minLength(1), v.maxLength(8191), v.regex(/^[^\p{Cc}]*$/u));
const values = v.record(v.picklist(LABELS), value);
export const Labels = v.object({ volume: values, snapshot: values });
export interface Labels {
  volume: LabelValues;
  snapshot: LabelValues;
}

export function labelsOf(own: ReadonlyMap<string, string>): LabelValues {
  return Object.fromEntries([...own].filter(([name]) => LABELS.includes(name)));
}

/** Those that a replica and its snapshot have already stay as they are. */
export async function label(
  context: Context,
  pool: string,
  { key, snapshot, labels }: { key: string; snapshot: string; labels: Labels },
): Promise<void> {
  const volume = volumeDataset(pool, key);
  await context.changeVolume(pool, key, async () => {
    const record = await context.look(pool, volume);
    if (!record.own.has(PROPERTY.replica)) {
      throw new ManagerError('VOLUME_FOREIGN', `${volume} is no replica: it keeps its names`);
    }
    await complete(context, record, labels.volume);
    const taken = await context.look(pool, snapshotDataset(volume, snapshot));
    await complete(context, taken, labels.snapshot);
  });
}

async function complete(
  context: Context,
  { dataset, own }: DatasetRecord,
  labels: LabelValues,
): Promise<void> {
  const missing = Object.entries(labels).filter(([name]) => !own.has(name));
  await explained('volume', `${dataset} cannot be named`, () =>
    context.zfs.set(dataset, Object.fromEntries(missing)),
  );
}
