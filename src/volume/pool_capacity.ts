// SPDX-License-Identifier: Apache-2.0
// How much of a group of disks is left for data: ZFS's own arithmetic (vdev.c, vdev_raidz.c,
// vdev_draid.c, spa_misc.c). Pure; test/zfs compares it with pools on sparse files.

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;
/** Two labels and the boot block in front, two labels behind. */
const LABELS = 4.5 * MIB;
/** What `zpool` leaves of a whole disk: a partition table, alignment, a small partition behind. */
const PARTITIONS = 10 * MIB;
const LABEL_ALIGN = 256 * 1024;
const SECTOR = 512;
/** Parity is accounted as for blocks of this size, whatever size they have. */
const ACCOUNTED_BLOCK = 128 * 1024;

export interface Group {
  kind: 'disk' | 'mirror' | 'raidz' | 'draid';
  parity: number;
  /** dRAID: data columns of a redundancy group, distributed spares. */
  data?: number;
  spares?: number;
  /** Of its disks. */
  sizes: number[];
  ashift: number;
  isFiles: boolean;
}

/** What ZFS can allocate of it, parity included. */
function allocatable(group: Group): number {
  const smallest = Math.min(...group.sizes) - (group.isFiles ? 0 : PARTITIONS);
  const one = Math.floor(smallest / LABEL_ALIGN) * LABEL_ALIGN - LABELS;
  const { kind, sizes, spares = 0 } = group;
  const columns = kind === 'raidz' ? sizes.length : kind === 'draid' ? sizes.length - spares : 1;
  const whole = Math.max(one, 0) * columns;
  const slab = 2 ** slabShift(whole);
  return Math.floor(whole / slab) * slab;
}

/** Metaslabs: about 200, from 512 MiB to 16 GiB. */
function slabShift(bytes: number): number {
  const highBit = (value: number) => (value < 1 ? 0 : Math.floor(Math.log2(value)) + 1);
  const count = bytes / 2 ** 29;
  if (count < 16) return Math.max(highBit(bytes / 16), 24);
  return count > 200 ? Math.min(Math.max(highBit(bytes / 200), 29), 34) : 29;
}

/** What a block of so many bytes takes. */
export function allocated(group: Group, block: number): number {
  const sector = 2 ** group.ashift;
  const sectors = Math.ceil(block / sector);
  const { kind, parity, sizes } = group;
  if (kind === 'raidz') {
    const rows = Math.ceil(sectors / (sizes.length - parity));
    const all = sectors + parity * rows;
    return Math.ceil(all / (parity + 1)) * (parity + 1) * sector;
  }
  if (kind === 'draid') {
    const data = group.data ?? 1;
    return Math.ceil(sectors / data) * (data + parity) * sector;
  }
  return sectors * sector;
}

/** As ZFS counts it for datasets, before its own share is taken off. */
function deflated(group: Group): number {
  const ratio = Math.floor(ACCOUNTED_BLOCK / (allocated(group, ACCOUNTED_BLOCK) / SECTOR));
  return (allocatable(group) / SECTOR) * ratio;
}

/** For data, in all: what `zfs list` says is available in a pool that is empty. */
export function capacityOf(groups: readonly Group[]): number {
  const kept = groups.map((group) => {
    const whole = allocatable(group);
    const slab = 2 ** slabShift(whole);
    // One metaslab is for synchronous writes, where there are enough.
    return whole / slab >= 64 ? deflated(group) * (slab / whole) : 0;
  });
  const logs = sum(kept);
  const space = sum(groups.map(deflated)) - logs;
  const slop = Math.max(Math.min(space / 32, 128 * GIB) - logs, Math.min(space / 2, 128 * MIB));
  return Math.max(Math.floor(space - slop), 0);
}

/**
 * How many bytes of the space that ZFS counts a volume's byte takes, where its blocks have that
 * size: 1 for mirrors; more where short blocks share their parity with few.
 */
export function inflation(group: Group, blockSize: number): number {
  const accounted = allocated(group, ACCOUNTED_BLOCK) / ACCOUNTED_BLOCK;
  return allocated(group, blockSize) / blockSize / accounted;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
