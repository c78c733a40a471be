// SPDX-License-Identifier: Apache-2.0
// All that XAPI is told at one moment: of each disk that a guest has of an SR of ours, of each SR,
// and of its pool.
import type { Disks } from '../disks.ts';
import { parseUri } from '../uri.ts';
import { type Activity, Growth, SharedGrowth } from './growth.ts';
import type { Guest, Guests } from './guests.ts';
import { ioSources } from './io_sources.ts';
import type { PoolFigures } from './pool_figures.ts';
import { arcSources, poolSources } from './pool_sources.ts';
import type { DataSource } from './rrd_format.ts';
import type { ServedDisk, ServedDisks } from './served_disks.ts';

export interface SampleServices {
  readonly served: ServedDisks;
  readonly guests: Pick<Guests, 'of'>;
  readonly pools: Pick<PoolFigures, 'pools' | 'srOf' | 'refresh'>;
  readonly disks: Pick<Disks, 'all'>;
}

/** In names of XAPI's: enough of a UUID to tell SRs apart. */
const SHORT_UUID = 8;

export class Samples {
  readonly #services: SampleServices;
  readonly #disks = new Growth();
  readonly #srs = new SharedGrowth();
  #lookedAt = performance.now();

  constructor(services: SampleServices) {
    this.#services = services;
  }

  async take(): Promise<DataSource[]> {
    const { served, guests, pools } = this.#services;
    void pools.refresh(this.#hasNewPool());
    const found = await served.read();
    const activities = this.#disks.look(found);
    const seconds = this.#secondsSinceLast();
    const known = await guests.of(found);
    const ofDisks = found.flatMap(({ name }) =>
      diskSources(known.get(name), activities.get(name), seconds),
    );
    return [...ofDisks, ...this.#ofSrs(found, activities, seconds), ...(await arcSources())];
  }

  /** A disk lies in a pool of which nothing has been told. */
  #hasNewPool(): boolean {
    const { disks, pools } = this.#services;
    return disks.all().some(([uri]) => pools.srOf(parseUri(uri).sr) === undefined);
  }

  #secondsSinceLast(): number {
    const now = performance.now();
    const seconds = (now - this.#lookedAt) / 1000;
    this.#lookedAt = now;
    return seconds;
  }

  #ofSrs(
    found: readonly ServedDisk[],
    activities: ReadonlyMap<string, Activity>,
    seconds: number,
  ): DataSource[] {
    const { pools } = this.#services;
    const bySr = new Map<string, Activity[]>(pools.pools.map(({ uuid }) => [uuid, []]));
    const srs = this.#srsByExport();
    for (const { name, exportName } of found) {
      const [sr, activity] = [srs.get(exportName), activities.get(name)];
      if (sr !== undefined && activity) bySr.set(sr, [...(bySr.get(sr) ?? []), activity]);
    }
    const ofIo = [...bySr].flatMap(([uuid, several]) =>
      ioSources('host', 'the SR', nameIn(uuid), this.#srs.add(uuid, several), seconds),
    );
    const ofPools = pools.pools.flatMap((pool) => poolSources(pool, nameIn(pool.uuid)));
    return [...ofIo, ...ofPools];
  }

  /** The SR of a volume, by the name of its export. */
  #srsByExport(): Map<string, string> {
    const { disks, pools } = this.#services;
    const found = new Map<string, string>();
    for (const [uri, { uuid }] of disks.all()) {
      const sr = pools.srOf(parseUri(uri).sr);
      if (sr !== undefined) found.set(uuid, sr);
    }
    return found;
  }
}

function diskSources(
  guest: Guest | undefined,
  activity: Activity | undefined,
  seconds: number,
): DataSource[] {
  if (!guest || !activity) return [];
  const nameOf = (name: string) => `vbd_${guest.device}_${name}`;
  return ioSources(`vm ${guest.uuid}`, 'the VDI', nameOf, activity, seconds);
}

function nameIn(sr: string): (name: string) => string {
  return (name) => `${name}_${sr.slice(0, SHORT_UUID)}`;
}
