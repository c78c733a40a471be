// SPDX-License-Identifier: Apache-2.0
// Disks before they become a pool's: how large, who uses them, what is on them.
import { constants } from 'node:fs';
import { open, readdir, realpath, stat } from 'node:fs/promises';
import path from 'node:path';
import * as v from 'valibot';
import { parseSize } from '../target/size.ts';
import type { RunCommand } from '../zfs/command.ts';
import { ManagerError } from './manager_types.ts';
import type { PlannedDisk } from './pool_plan.ts';

const BY_ID = '/dev/disk/by-id';
/** "8x10T": so many disks that nobody has yet. */
const IMAGINED = /^(?:(\d{1,3})x)?(\d+[KMGT])$/i;
const READ_MS = 20_000;

interface Node {
  path: string;
  mountpoints: (string | null)[];
  type?: string | undefined;
  size: number;
  'phy-sec'?: number | null | undefined;
  rota?: boolean | null | undefined;
  ro?: boolean | null | undefined;
  children?: Node[] | undefined;
}

const NodeSchema: v.GenericSchema<unknown, Node> = v.object({
  path: v.string(),
  size: v.optional(v.number(), 0),
  'phy-sec': v.nullish(v.number()),
  rota: v.nullish(v.boolean()),
  ro: v.nullish(v.boolean()),
  type: v.optional(v.string()),
  mountpoints: v.optional(v.array(v.nullable(v.string())), []),
  children: v.optional(v.array(v.lazy(() => NodeSchema))),
});
const ListSchema = v.object({ blockdevices: v.array(NodeSchema) });
const SignaturesSchema = v.object({
  signatures: v.optional(v.array(v.object({ type: v.string() })), []),
});

/** For a plan: a size stands for disks that are not there. Empty: it is the name of one. */
export function imaginedDisks(word: string, first: number): PlannedDisk[] {
  const [, times = '1', size] = IMAGINED.exec(word) ?? [];
  const bytes = size === undefined ? undefined : parseSize(size);
  if (size === undefined || bytes === undefined) return [];
  return Array.from({ length: Number(times) }, (_, index) => ({
    path: `${size}-${first + index}`,
    size: bytes,
    physicalSector: 4096,
    rotational: false,
    isFile: false,
  }));
}

export class Disks {
  readonly #run: RunCommand;

  constructor(run: RunCommand) {
    this.#run = run;
  }

  /** What `zpool` is to be told: a name that stays, where udev has one. */
  async stableName(disk: string): Promise<string> {
    if (!/^\/dev\/[^/]+$/.test(disk)) return disk;
    const device = await realpath(disk).catch(() => disk);
    const names = await readdir(BY_ID).catch(() => []);
    for (const name of names.sort()) {
      const link = path.join(BY_ID, name);
      if ((await realpath(link).catch(() => '')) === device) return link;
    }
    return disk;
  }

  async look(disk: string): Promise<PlannedDisk> {
    if (!path.isAbsolute(disk)) throw missing(disk, 'it is no absolute path');
    const found = await stat(disk).catch((error: Error) => {
      throw missing(disk, error.message);
    });
    if (found.isFile()) {
      return {
        path: disk,
        size: found.size,
        physicalSector: 512,
        rotational: false,
        isFile: true,
      };
    }
    if (!found.isBlockDevice()) throw missing(disk, 'it is no block device and no file');
    const node = await this.#node(disk);
    return {
      path: disk,
      size: node.size,
      physicalSector: node['phy-sec'] ?? 512,
      rotational: node.rota === true,
      isFile: false,
    };
  }

  /** Throws DISK_IN_USE, or DISK_LABELLED unless it is to be wiped, and then wipes it. */
  async prepare(disk: string, wipe: boolean): Promise<void> {
    const parts = await this.refuseUsed(disk);
    const labels = await this.#labels([...parts, disk]);
    if (labels.length === 0) return;
    if (!wipe) {
      throw new ManagerError(
        'DISK_LABELLED',
        `${disk} has ${labels.join(', ')} on it: give --wipe if nobody needs that any more`,
      );
    }
    for (const part of [...parts, disk]) {
      // Both leave alone what the other knows better: ZFS has four labels, two of them at the end.
      await this.#run('zpool', ['labelclear', '-f', part]).catch(() => {});
      await this.#run('wipefs', ['--all', '--force', part]);
    }
  }

  /** Throws DISK_IN_USE; gives its partitions. */
  async refuseUsed(disk: string): Promise<string[]> {
    if ((await stat(disk)).isFile()) return [];
    const inUse = (why: string) => new ManagerError('DISK_IN_USE', `${disk} ${why}`);
    const below = descendants(await this.#node(disk));
    for (const { path: name, mountpoints, type, ro } of below) {
      const [mounted] = mountpoints.filter((place) => place !== null);
      if (mounted !== undefined) throw inUse(`is in use: ${name} is mounted on ${mounted}`);
      if (ro === true) throw inUse(`cannot be written to`);
      if (type !== undefined && !/^(disk|part|loop)$/.test(type) && name !== disk) {
        throw inUse(`is in use: ${name} (${type}) stands on it`);
      }
    }
    for (const { path: name } of below) await refuseHeld(name, inUse);
    return below.slice(1).map(({ path: name }) => name);
  }

  async #labels(names: string[]): Promise<string[]> {
    const types: string[] = [];
    for (const name of names) {
      const text = await this.#run('wipefs', ['--json', '--no-act', name], { timeoutMs: READ_MS });
      const { signatures } = v.parse(SignaturesSchema, JSON.parse(text || '{}'));
      types.push(...signatures.map(({ type }) => type));
    }
    return [...new Set(types)];
  }

  async #node(disk: string): Promise<Node> {
    const columns = 'PATH,SIZE,PHY-SEC,ROTA,RO,TYPE,MOUNTPOINTS';
    const args = ['--bytes', '--json', '--output', columns, disk];
    const text = await this.#run('lsblk', args, { timeoutMs: READ_MS });
    const [node] = v.parse(ListSchema, JSON.parse(text)).blockdevices;
    if (node) return node;
    throw missing(disk, 'lsblk does not know it');
  }
}

function descendants(node: Node): Node[] {
  return [node, ...(node.children ?? []).flatMap(descendants)];
}

/** File systems, dm, md, ZFS and others claim their devices so. */
async function refuseHeld(disk: string, inUse: (why: string) => ManagerError): Promise<void> {
  try {
    const file = await open(disk, constants.O_RDONLY | constants.O_EXCL);
    await file.close();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw inUse(code === 'EBUSY' ? `is in use: something holds ${disk}` : `: ${message}`);
  }
}

function missing(disk: string, why: string): ManagerError {
  return new ManagerError('LAYOUT_INVALID', `${JSON.stringify(disk)} is no disk: ${why}`);
}
