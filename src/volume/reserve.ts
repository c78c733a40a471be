// SPDX-License-Identifier: Apache-2.0
// What a pool keeps back: an empty dataset holds it, so others cannot fill it. ZFS takes no
// snapshot in a pool that is full, and does not count as free what is kept back: what a snapshot
// needs is lent out of it.
import { parseNumber } from '../zfs/tables.ts';
import { Zfs } from '../zfs/zfs.ts';
import { isZfsError } from '../zfs/zfs_error.ts';
import { explained } from './failures.ts';
import { reserveOf } from './names.ts';
import { PROPERTY } from './properties.ts';

const MIB = 1024 ** 2;
/** ZFS asks for far more than a snapshot takes; a thick volume's, which takes it all, gets none. */
const LOANS = [16 * MIB, 64 * MIB];

interface Reserve {
  bytes: number;
  percent: number;
  /** What it can be at most, now. */
  most: number;
}

/** Bytes; 0: nothing is kept back. */
export async function reservedIn(zfs: Zfs, pool: string): Promise<number> {
  return (await readReserve(zfs, pool))?.bytes ?? 0;
}

/** Keeps back that share of all that the pool has room for. */
export async function setShare(zfs: Zfs, pool: string, percent: number): Promise<void> {
  const dataset = reserveOf(pool);
  await explained('pool', `${percent} % of ${pool} cannot be reserved`, async () => {
    const exists = await zfs.exists(dataset);
    if (percent === 0) {
      if (exists) await zfs.destroy(dataset);
      return;
    }
    const bytes = String(await shareOf(zfs, pool, percent));
    const settings = { refreservation: bytes, [PROPERTY.reserve]: String(percent) };
    if (exists) await zfs.set(dataset, settings);
    else await zfs.createFilesystem(dataset, { mountpoint: 'none', ...settings });
  });
}

/** Makes it its share again, as far as there is room: after a loan, or where a pool has grown. */
export async function topUp(zfs: Zfs, pool: string): Promise<void> {
  const reserve = await readReserve(zfs, pool);
  if (!reserve) return;
  const wanted = Math.min(await shareOf(zfs, pool, reserve.percent), reserve.most);
  if (wanted <= reserve.bytes) return;
  try {
    await zfs.set(reserveOf(pool), { refreservation: String(wanted) });
  } catch (error) {
    // Somebody was faster: what he has left is taken the next time.
    if (!isZfsError(error, 'full')) throw error;
  }
}

async function shareOf(zfs: Zfs, pool: string, percent: number): Promise<number> {
  const root = (await zfs.get(pool, { properties: ['used', 'available'] })).get(pool);
  const [used = 0, available = 0] = ['used', 'available'].map((name) =>
    parseNumber(root?.get(name)?.value),
  );
  return Math.floor(((used + available) * percent) / 100);
}

async function readReserve(zfs: Zfs, pool: string): Promise<Reserve | undefined> {
  const dataset = reserveOf(pool);
  try {
    const properties = ['refreservation', 'available', PROPERTY.reserve];
    const found = (await zfs.get(dataset, { properties })).get(dataset);
    const [bytes = 0, most = 0, percent = 0] = properties.map((name) =>
      parseNumber(found?.get(name)?.value),
    );
    return { bytes, most, percent };
  } catch (error) {
    if (isZfsError(error, 'unknown')) return undefined;
    throw error;
  }
}

/** ZFS, where a snapshot, a clone and a bookmark can be made in a full pool, too. */
export class LendingZfs extends Zfs {
  override snapshot(snapshot: string, settings: Record<string, string>): Promise<void> {
    return this.#lend(snapshot, () => super.snapshot(snapshot, settings));
  }

  override clone(
    snapshot: string,
    dataset: string,
    settings: Record<string, string>,
  ): Promise<void> {
    return this.#lend(dataset, () => super.clone(snapshot, dataset, settings));
  }

  override bookmark(snapshot: string, bookmark: string): Promise<void> {
    return this.#lend(bookmark, () => super.bookmark(snapshot, bookmark));
  }

  async #lend(dataset: string, body: () => Promise<void>): Promise<void> {
    try {
      return await body();
    } catch (error) {
      if (!isZfsError(error, 'full')) throw error;
      const [pool = ''] = dataset.split('/');
      const reserve = await readReserve(this, pool);
      if (!reserve) throw error;
      await this.#withLoan(pool, reserve.bytes, error, body);
    }
  }

  /** Dies it in here, the next manager that starts tops the reserve up. */
  async #withLoan(pool: string, bytes: number, full: unknown, body: () => Promise<void>) {
    try {
      for (const loan of LOANS.filter((one) => one <= bytes / 2)) {
        await this.set(reserveOf(pool), { refreservation: String(bytes - loan) });
        try {
          return await body();
        } catch (error) {
          if (!isZfsError(error, 'full')) throw error;
        }
      }
    } finally {
      await topUp(this, pool);
    }
    throw full;
  }
}
