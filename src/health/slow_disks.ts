// SPDX-License-Identifier: Apache-2.0
// Disks that take far too long, which a pool's status does not tell: ZFS reports each such I/O as
// an event (zio_slow_io_ms, half a minute unless changed).
import { parseEvents } from '../zfs/pool_events.ts';

/** How long a disk is told of after its last slow I/O. */
const LASTS_MS = 15 * 60_000;
const SLOW = /^ereport\.fs\.zfs\.(delay|deadman)$/;

export class SlowDisks {
  /** When, in milliseconds since 1970; by pool and disk. */
  readonly #seen = new Map<string, { pool: string; disk: string; at: number }>();
  #last = '';

  /**
   * `read`: what `zpool events` prints, in short and in full; the full text is asked for only where
   * there is something new to see.
   */
  async look(read: (verbose: boolean) => Promise<string | undefined>, now: number): Promise<void> {
    const short = await read(false);
    if (short !== undefined && short !== this.#last) {
      const isSlow = parseEvents(short).some(({ kind, at }) => SLOW.test(kind) && isFresh(at, now));
      const text = isSlow ? await read(true) : '';
      // Else it is asked for once more.
      if (text !== undefined) this.#last = short;
      this.#take(text ?? '', now);
    }
    for (const [key, { at }] of this.#seen) if (!isFresh(at, now)) this.#seen.delete(key);
  }

  #take(text: string, now: number): void {
    for (const { kind, at, pool, vdev } of parseEvents(text)) {
      if (!SLOW.test(kind) || pool === undefined || vdev === undefined || !isFresh(at, now))
        continue;
      this.#seen.set(`${pool} ${vdev}`, { pool, disk: vdev, at });
    }
  }

  /** As a pool's status names them. */
  of(pool: string): ReadonlySet<string> {
    const here = [...this.#seen.values()].filter((one) => one.pool === pool);
    return new Set(here.map(({ disk }) => disk));
  }
}

function isFresh(at: number, now: number): boolean {
  return now - at < LASTS_MS;
}
