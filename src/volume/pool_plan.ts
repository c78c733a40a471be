// SPDX-License-Identifier: Apache-2.0
// From plain words to a pool: groups of disks, `zpool create`'s arguments, what is left for volumes
// and what a failure costs. Pure.
import {
  type Layout,
  ManagerError,
  type PlannedGroup,
  type PoolLayout,
  type PoolPlan,
} from './manager_types.ts';
import { checkPoolName } from './names.ts';
import { capacityOf, type Group, inflation } from './pool_capacity.ts';

export const ASHIFT_DEFAULT = 12;
const ASHIFT_MAX = 16;
export const RESERVE_DEFAULT = 20;
const BLOCK = 16 * 1024;

/** As it was looked at, or as it is imagined. */
export interface PlannedDisk {
  path: string;
  size: number;
  physicalSector: number;
  rotational: boolean;
  isFile: boolean;
}

export interface PlanInput {
  pool: string;
  wish: PoolLayout & { reserve?: number };
  /** By path, of all disks that the wish names. */
  disks: ReadonlyMap<string, PlannedDisk>;
  /** -o and -O: what is not in the wish. */
  settings: readonly string[];
}

interface Shape {
  words: string[];
  kind: Group['kind'];
  parity: number;
  data?: number;
  spares?: number;
  disks: string[];
}

export function planOf({ pool, wish, disks, settings }: PlanInput): PoolPlan {
  checkPoolName(pool);
  const all = allDisks(wish);
  refuseTwice(all);
  const ashift = ashiftOf(wish, all, disks);
  const shapes = shapesOf(wish.layout, wish.disks, wish.width);
  const groups = shapes.map((shape) => toGroup(shape, disks, ashift));
  const reserve = checkedReserve(wish.reserve);
  const capacity = capacityOf(groups);
  const reservedBytes = Math.floor((capacity * reserve) / 100);
  return {
    command: ['zpool', 'create', '-o', `ashift=${ashift}`, ...settings, pool, ...vdevWords(wish)],
    ashift,
    rawBytes: shapes
      .flatMap(({ disks: names }) => names)
      .reduce((sum, n) => sum + sizeOf(disks, n), 0),
    usableBytes: capacity - reservedBytes,
    reservedBytes,
    groups: plannedGroups(wish, shapes, groups),
    failures: failuresOf(wish, shapes),
    warnings: warningsOf(wish, shapes, groups, disks, ashift),
  };
}

/** The arguments of `zpool create` and `zpool add` for disks in their roles. */
export function vdevWords(wish: Partial<PoolLayout>): string[] {
  const { layout = 'stripe', disks = [], width, log = [], cache = [], special = [] } = wish;
  const spare = wish.spare ?? [];
  const several = (names: string[]) => (names.length > 1 ? ['mirror', ...names] : names);
  return [
    ...shapesOf(layout, disks, width).flatMap(({ words, disks: names }) => [...words, ...names]),
    ...(log.length > 0 ? ['log', ...several(log)] : []),
    ...(special.length > 0 ? ['special', ...several(special)] : []),
    ...(cache.length > 0 ? ['cache', ...cache] : []),
    ...(spare.length > 0 ? ['spare', ...spare] : []),
  ];
}

export function allDisks(wish: Partial<PoolLayout>): string[] {
  const { disks = [], log = [], cache = [], special = [], spare = [] } = wish;
  return [...disks, ...log, ...cache, ...special, ...spare];
}

function refuseTwice(names: string[]): void {
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw invalid(`${twice} is named twice`);
}

function invalid(why: string): ManagerError {
  return new ManagerError('LAYOUT_INVALID', `these disks make no pool: ${why}`);
}

export function checkedReserve(percent = RESERVE_DEFAULT): number {
  if (percent >= 0 && percent <= 90) return percent;
  throw invalid(`${percent} % cannot be reserved; it is a number from 0 to 90`);
}

/** Never less than a disk's physical sector: each write would cost a read. */
function ashiftOf(
  wish: PoolLayout,
  names: string[],
  disks: ReadonlyMap<string, PlannedDisk>,
): number {
  const sector = Math.max(...names.map((name) => disks.get(name)?.physicalSector ?? 0), 512);
  const least = Math.ceil(Math.log2(sector));
  const { ashift = Math.min(Math.max(ASHIFT_DEFAULT, least), ASHIFT_MAX) } = wish;
  if (!Number.isInteger(ashift) || ashift < 9 || ashift > ASHIFT_MAX) {
    throw invalid(`ashift ${ashift} is no number from 9 to ${ASHIFT_MAX}`);
  }
  if (ashift < Math.min(least, ASHIFT_MAX)) {
    throw invalid(`ashift ${ashift} is less than a disk's physical sector of ${sector} bytes`);
  }
  return ashift;
}

const PARITY: Record<Layout, number> = {
  stripe: 0,
  mirror: 0,
  raidz1: 1,
  raidz2: 2,
  raidz3: 3,
  draid: 2,
};

function shapesOf(layout: Layout, disks: string[], width: number | undefined): Shape[] {
  if (disks.length === 0) return [];
  const parity = PARITY[layout];
  if (layout === 'stripe') {
    return disks.map((disk) => ({ words: [], kind: 'disk', parity, disks: [disk] }));
  }
  if (layout === 'draid') return [draidShape(disks, width)];
  const size = width ?? (layout === 'mirror' ? 2 : disks.length);
  const least = layout === 'mirror' ? 2 : parity + 2;
  if (!Number.isInteger(size) || size < least) {
    throw invalid(`a group of ${layout} has at least ${least} disks, not ${size}`);
  }
  if (disks.length % size !== 0) {
    throw invalid(`${disks.length} disks are no whole number of groups of ${size}`);
  }
  const kind = layout === 'mirror' ? 'mirror' : 'raidz';
  return Array.from({ length: disks.length / size }, (_, index) => ({
    words: [layout],
    kind,
    parity: layout === 'mirror' ? size - 1 : parity,
    disks: disks.slice(index * size, (index + 1) * size),
  }));
}

/** Two disks of each group are parity's, and one of all is a distributed spare. */
function draidShape(disks: string[], width: number | undefined): Shape {
  const parity = PARITY.draid;
  const [children, spares] = [disks.length, 1];
  const data = (width ?? Math.min(8 + parity, children - spares)) - parity;
  if (data < 1 || data + parity + spares > children) {
    throw invalid(`draid has at least ${parity + spares + 1} disks, and groups of fewer than all`);
  }
  const words = [`draid${parity}:${data}d:${children}c:${spares}s`];
  return { words, kind: 'draid', parity, data, spares, disks };
}

function toGroup(shape: Shape, disks: ReadonlyMap<string, PlannedDisk>, ashift: number): Group {
  const { kind, parity, data, spares } = shape;
  return {
    kind,
    parity,
    ...(data !== undefined && { data }),
    ...(spares !== undefined && { spares }),
    sizes: shape.disks.map((name) => sizeOf(disks, name)),
    ashift,
    isFiles: shape.disks.every((name) => disks.get(name)?.isFile === true),
  };
}

function sizeOf(disks: ReadonlyMap<string, PlannedDisk>, name: string): number {
  return disks.get(name)?.size ?? 0;
}

function plannedGroups(wish: PoolLayout, shapes: Shape[], groups: Group[]): PlannedGroup[] {
  const data = shapes.map((shape, index): PlannedGroup => {
    const group = groups[index];
    return {
      role: 'data',
      kind: shape.words[0] ?? 'disk',
      disks: shape.disks,
      usableBytes: group ? capacityOf([group]) : 0,
      survives: shape.parity,
    };
  });
  const others = (['log', 'special', 'cache', 'spare'] as const).flatMap((role) => {
    const { [role]: names = [] } = wish;
    if (names.length === 0) return [];
    const isMirror = names.length > 1 && (role === 'log' || role === 'special');
    const kind = isMirror ? 'mirror' : 'disk';
    const survives = isMirror ? names.length - 1 : 0;
    return [{ role, kind, disks: names, usableBytes: 0, survives }];
  });
  return [...data, ...others];
}

function failuresOf(wish: PoolLayout, shapes: Shape[]): string[] {
  const survives = Math.min(...shapes.map(({ parity }) => parity));
  const each = shapes.length > 1 ? ' of each group' : '';
  const sentences = [
    survives === 0
      ? 'Any disk that fails takes the whole pool with it.'
      : `${count(survives)}${each} may fail without loss; one more in the same group, and the ` +
        'whole pool is lost.',
  ];
  const { log = [], special = [], cache = [], spare = [] } = wish;
  if (log.length === 1) {
    sentences.push(
      'The log disk may fail; if the power does, too, the last seconds of synchronous writes are ' +
        'lost.',
    );
  }
  if (log.length > 1) sentences.push(`${count(log.length - 1)} of the log may fail without loss.`);
  if (special.length > 0) {
    const all = special.length === 1 ? 'The special disk' : 'All special disks';
    sentences.push(`${all} failing takes the whole pool: it holds what the others are found by.`);
  }
  if (cache.length > 0) sentences.push('A cache disk that fails costs speed only.');
  if (spare.length > 0) sentences.push('A spare takes the place of a disk that fails by itself.');
  return sentences;
}

function count(disks: number): string {
  return disks === 1 ? 'One disk' : `${disks} disks`;
}

function warningsOf(
  wish: PoolLayout,
  shapes: Shape[],
  groups: Group[],
  disks: ReadonlyMap<string, PlannedDisk>,
  ashift: number,
): string[] {
  const data = wish.disks.map((name) => disks.get(name)).filter((disk) => disk !== undefined);
  const warnings: string[] = [];
  const sizes = shapes.map((shape) => shape.disks.map((name) => sizeOf(disks, name)));
  if (sizes.some((group) => Math.max(...group) > Math.min(...group) * 1.02)) {
    warnings.push('Disks of one group have different sizes: of each only the smallest one counts.');
  }
  if (new Set(data.map(({ rotational }) => rotational)).size > 1) {
    warnings.push('Slow and fast disks are mixed: the slow ones set the pace.');
  }
  if (wish.special?.length === 1 && Math.min(...shapes.map(({ parity }) => parity)) > 0) {
    warnings.push('The special disk has no mirror, while the others may fail.');
  }
  const worst = Math.max(...groups.map((group) => inflation(group, BLOCK)));
  if (worst > 1.02) {
    warnings.push(
      `Volumes with blocks of 16 KiB take ${worst.toFixed(2)} times their size here: short ` +
        'blocks have much parity. Larger blocks (--block-size 64K) or mirrors take less.',
    );
  }
  if (ashift < ASHIFT_DEFAULT) {
    warnings.push(`ashift ${ashift} can never be changed, and most disks that come later want 12.`);
  }
  return warnings;
}
