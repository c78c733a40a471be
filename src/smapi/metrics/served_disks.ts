// SPDX-License-Identifier: Apache-2.0
// The disks that the daemon serves, by what it leaves in its runtime directory: a record each, and
// the stats pages of its queues. The daemon is not asked, and does not notice.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { setImmediate as othersFirst } from 'node:timers/promises';
import * as v from 'valibot';
import { type VbdId, vbdName } from '../../vbd/id.ts';
import { parseRecordName, recordsFolder } from '../../vbd/record.ts';
import { type Page, readStatsPage, type Totals } from './stats_page.ts';

export interface ServedDisk {
  /** Unique while it is served. */
  readonly name: string;
  readonly id: VbdId;
  /** By which the toolstack names it: of an SR's volume, its UUID. */
  readonly exportName: string;
  /** Another one means that its totals begin anew, and perhaps that another guest has it. */
  readonly generation: string;
  /** Of all its queues. */
  readonly totals: Totals;
  readonly inFlight: number;
}

/** Of a record of any version; all else of it is the daemon's business. */
const recordSchema = v.object({ target: v.object({ params: v.string() }) });
const PAGE = /^(.+)\.queue-[0-9]{1,2}\.stats$/;
/** A thousand disks are no reason to keep a toolstack's call waiting. */
const AT_ONCE = 32;

interface Record {
  /** Of the file: replaced, it is another. */
  readonly inode: number;
  readonly exportName: string | undefined;
}

export class ServedDisks {
  readonly #folder: string;
  readonly #records = new Map<string, Record>();

  constructor(daemonRuntimeDir: string) {
    this.#folder = recordsFolder(daemonRuntimeDir);
  }

  /** Those whose guests are connected, and that are exports of volumes. */
  async read(): Promise<ServedDisk[]> {
    const names = list(this.#folder);
    const pages = pagesByDisk(names);
    const records = new Set(names.filter((name) => parseRecordName(name) !== undefined));
    for (const known of this.#records.keys()) if (!records.has(known)) this.#records.delete(known);
    const disks: ServedDisk[] = [];
    let looked = 0;
    for (const name of records) {
      if (++looked % AT_ONCE === 0) await othersFirst();
      const disk = this.#disk(name, pages.get(path.parse(name).name) ?? []);
      if (disk) disks.push(disk);
    }
    return disks;
  }

  #disk(name: string, pages: string[]): ServedDisk | undefined {
    const id = parseRecordName(name);
    try {
      const { exportName } = this.#record(name);
      if (!id || exportName === undefined || pages.length === 0) return undefined;
      const read = pages.map((page) => readStatsPage(path.join(this.#folder, page)));
      return { name: vbdName(id), id, exportName, ...together(read) };
    } catch {
      // It has gone while it was looked at; one that stays unreadable has no metrics.
      return undefined;
    }
  }

  #record(name: string): Record {
    const file = path.join(this.#folder, name);
    const { ino: inode } = statSync(file);
    const known = this.#records.get(name);
    if (known?.inode === inode) return known;
    const found = v.safeParse(recordSchema, JSON.parse(readFileSync(file, 'utf8')));
    const params = found.success ? found.output.target.params : '';
    const [, exportName] = /:exportname=([^:]+)$/.exec(params) ?? [];
    const record = { inode, exportName };
    this.#records.set(name, record);
    return record;
  }
}

/** Sorted. */
function list(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

function pagesByDisk(names: readonly string[]): Map<string, string[]> {
  const pages = new Map<string, string[]>();
  for (const name of names) {
    const [, disk] = PAGE.exec(name) ?? [];
    if (disk === undefined) continue;
    const known = pages.get(disk);
    if (known) known.push(name);
    else pages.set(disk, [name]);
  }
  return pages;
}

function together(pages: readonly Page[]): Pick<ServedDisk, 'generation' | 'totals' | 'inFlight'> {
  const generation = pages.map(({ inode }) => inode).join();
  const inFlight = pages.reduce((sum, page) => sum + page.inFlight, 0);
  return { generation, totals: sumOf(pages.map(({ totals }) => totals)), inFlight };
}

const NOTHING: Totals = {
  reads: 0,
  writes: 0,
  readBytes: 0,
  writeBytes: 0,
  discardBytes: 0,
  errors: 0,
  readNs: 0,
  writeNs: 0,
};

export function sumOf(all: readonly Totals[]): Totals {
  return all.reduce((sum, one) => combine(sum, one, (a, b) => a + b), NOTHING);
}

export function combine(one: Totals, other: Totals, how: (a: number, b: number) => number): Totals {
  const names = Object.keys(NOTHING) as (keyof Totals)[];
  const entries = names.map((name) => [name, how(one[name], other[name])]);
  return Object.fromEntries(entries) as unknown as Totals;
}
