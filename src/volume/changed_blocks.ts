// SPDX-License-Identifier: Apache-2.0
// What has changed in a volume since a snapshot or a bookmark of it, as ZFS itself tells by what it
// would send. It knows also of what was written while nobody looked. Never less than has changed;
// more where a volume is first written to behind all that it had: ZFS tells the hole between, too.
import { randomUUID } from 'node:crypto';
import { readStream } from '../zfs/read_stream.ts';
import { SendStream } from '../zfs/send_stream.ts';
import type { Context } from './context.ts';
import { explained } from './failures.ts';
import { type ChangedBlocks, ManagerError } from './manager_types.ts';
import { baseDataset } from './names.ts';
import { statVolume } from './volumes.ts';

const GRANULARITY_MIN = 4096;
/** 2^30 bits: 64 TiB by 64 KiB. */
const BITS_MAX = 2 ** 30;

export async function changedBlocks(
  context: Context,
  pool: string,
  fromKey: string,
  toKey: string,
  granularity: number,
): Promise<ChangedBlocks> {
  const from = await statVolume(context, pool, fromKey);
  const to = await statVolume(context, pool, toKey);
  if (from.kind === 'volume' || to.kind === 'bookmark') {
    throw new ManagerError(
      'NOT_A_SNAPSHOT',
      'changes are told from a snapshot to a later one or its volume, ' +
        `not from ${fromKey} to ${toKey}`,
    );
  }
  const changes = new ChangeMap(Math.max(from.size, to.size), granularity);
  const doing = `what has changed from ${from.dataset} to ${to.dataset} cannot be told`;
  await explained('volume', doing, () =>
    withSnapshot(context, pool, to.kind === 'volume', to.dataset, (snapshot) =>
      readChanges(from.dataset, snapshot, changes),
    ),
  );
  const shared = Math.min(from.size, to.size);
  changes.note(shared, Math.max(from.size, to.size) - shared);
  return { granularity, bitmap: changes.bitmap };
}

/** Of a volume as it is now there is a snapshot only while this runs. */
async function withSnapshot(
  context: Context,
  pool: string,
  isVolume: boolean,
  dataset: string,
  body: (snapshot: string) => Promise<void>,
): Promise<void> {
  if (!isVolume) return body(dataset);
  const base = baseDataset(dataset, randomUUID());
  const { kept } = context.store(pool);
  kept.add(base);
  try {
    await context.changeStore(pool, () => context.zfs.snapshot(base, {}));
    await body(base);
  } finally {
    kept.delete(base);
    await context.changeStore(pool, () => context.zfs.destroyDeferred(base));
  }
}

async function readChanges(from: string, to: string, changes: ChangeMap): Promise<void> {
  const stream = new SendStream((offset, length) => changes.note(offset, length));
  await readStream('zfs', ['send', '-c', '-e', '-i', from, to], (chunk) => stream.push(chunk));
  if (!stream.ended) throw new SyntaxError('the stream of zfs send has no end');
}

/** A bit for each chunk, the first one the highest of the first byte. */
export class ChangeMap {
  readonly bitmap: Buffer;
  readonly #size: number;
  readonly #granularity: number;

  constructor(size: number, granularity: number) {
    const isPowerOfTwo = Number.isInteger(Math.log2(granularity));
    const bits = Math.ceil(size / granularity);
    if (!isPowerOfTwo || granularity < GRANULARITY_MIN || bits > BITS_MAX) {
      throw new ManagerError('SIZE_INVALID', `changes cannot be told by ${granularity} bytes`);
    }
    this.#size = size;
    this.#granularity = granularity;
    this.bitmap = Buffer.alloc(Math.ceil(bits / 8));
  }

  note(offset: number, length: number): void {
    const end = Math.min(offset + length, this.#size);
    if (offset >= end) return;
    const last = Math.floor((end - 1) / this.#granularity);
    for (let chunk = Math.floor(offset / this.#granularity); chunk <= last; chunk++) {
      const at = chunk >> 3;
      this.bitmap[at] = (this.bitmap[at] ?? 0) | (0x80 >> (chunk & 7));
    }
  }
}
