// SPDX-License-Identifier: Apache-2.0
// What `npm run bench:rig` measures: who serves the disk, what the guest does with it, and how the
// guest is set up. Read on the host and in dom0, so importing it does nothing.
import { SETTINGS } from '../format_settings.mjs';

/**
 * Who serves the disk.
 * @typedef {object} Peer
 * @property {string} title
 * @property {'phy' | 'tap' | 'qdisk' | 'own'} backend as xl calls it: xen-blkback, ringdisk, QEMU;
 *   own: a QEMU of its own, which xl knows nothing of
 * @property {'block' | 'nvme' | 'null' | 'raw' | 'qcow2'} target the same disk as a block device or
 *   for passthrough; null: ringdisk's own, which carries nothing out; files of `--images`
 * @property {string} [options]                before a qcow2's path, as in a target
 * @property {Record<string, unknown>} [daemon] ringdisk's configuration; {}: as shipped
 * @property {string} [remark]                 what has to be said beside its figures
 */

/** @type {Record<string, Peer>} */
export const PEERS = {
  blkback: { title: 'xen-blkback', backend: 'phy', target: 'block' },
  ringdisk: { title: 'ringdisk', backend: 'tap', target: 'block', daemon: {} },
  asleep: {
    title: 'ringdisk, never polling',
    backend: 'tap',
    target: 'block',
    daemon: { pollBudgetUs: 0 },
  },
  patient: {
    title: 'ringdisk, polling for 1 ms',
    backend: 'tap',
    target: 'block',
    daemon: { pollBudgetUs: 1000 },
    remark:
      'by the wall clock an emulated CPU takes some 20 times as long for everything, so that the ' +
      '50 µs as shipped are over before anything happens',
  },
  nvme: { title: 'ringdisk, nvme target', backend: 'tap', target: 'nvme', daemon: {} },
  floor: { title: 'ringdisk, null target', backend: 'tap', target: 'null', daemon: {} },
  qdisk: {
    title: 'QEMU qdisk',
    backend: 'qdisk',
    target: 'block',
    remark: "Debian's qemu-system-xen is built with neither Linux AIO nor io_uring",
  },
};

/** ringdisk by each way of moving data: `--grants`. */
for (const grants of ['auto', 'persistent', 'copy', 'map']) {
  PEERS[grants] = {
    title: `ringdisk, grants=${grants}`,
    backend: 'tap',
    target: 'block',
    daemon: { grants },
  };
}

/** A raw file and a qcow2, by ringdisk and by a QEMU of its own: `--images`. */
PEERS.raw = { title: 'raw file, ringdisk', backend: 'tap', target: 'raw', daemon: {} };
for (const [index, { title, options }] of SETTINGS.entries()) {
  const number = index + 1;
  const qcow2 = { target: /** @type {const} */ ('qcow2'), options };
  PEERS[`q${number}`] = { title: `QEMU, ${title}`, backend: 'own', ...qcow2 };
  PEERS[`r${number}`] = { title: `ringdisk, ${title}`, backend: 'tap', ...qcow2, daemon: {} };
}
export const IMAGE_PATH = '/var/lib/rig/disk.qcow2';
/** 8 MiB of a qcow2's tables: more than two of the caches hold. */
export const IMAGE_GIB = 64;

/**
 * What the guest does; amounts are fixed, so that runs are alike.
 * @typedef {object} Workload
 * @property {string} title
 * @property {string} rw       fio's
 * @property {string} bs
 * @property {number} jobs
 * @property {number} depth    per job
 * @property {number} mib      moved in all
 * @property {'iops' | 'mib'} unit what is compared
 */

/** @type {Record<string, Workload>} */
export const WORKLOADS = {
  rr32: work('4 KiB random read, 4 × QD 32', 'randread', '4k', 4, 32, 40),
  rw32: work('4 KiB random write, 4 × QD 32', 'randwrite', '4k', 4, 32, 40),
  mix: work('4 KiB random 70/30, 4 × QD 32', 'randrw --rwmixread=70', '4k', 4, 32, 40),
  rr1: work('4 KiB random read, QD 1', 'randread', '4k', 1, 1, 8),
  rw1: work('4 KiB random write, QD 1', 'randwrite', '4k', 1, 1, 8),
  sr4k: work('4 KiB sequential read, QD 32', 'read', '4k', 1, 32, 40),
  sw4k: work('4 KiB sequential write, QD 32', 'write', '4k', 1, 32, 40),
  sr1m: work('1 MiB sequential read, QD 8', 'read', '1m', 1, 8, 200),
  sw1m: work('1 MiB sequential write, QD 8', 'write', '1m', 1, 8, 200),
  fs8: work(
    '4 KiB random write, each with an fsync, 4 × QD 8',
    'randwrite --fsync=1',
    '4k',
    4,
    8,
    8,
  ),
};

/** Only measured where they are asked for: they ask the disk's cache, not the backend. */
const ON_DEMAND = ['fs8'];

/** Takes the disk's and both ends' first costs: pages mapped, holes filled. */
export const WARM_UP = [
  { ...WORKLOADS.sw1m, mib: 64 },
  { ...WORKLOADS.rr32, mib: 8 },
];

/**
 * How the guest's blkfront is set up.
 * @type {Record<string, { title: string, vcpus: number, icountVcpus: number, memoryMib: number,
 *   blkfront: Record<string, number> }>}
 */
export const GUESTS = {
  defaults: {
    title: 'blkfront as shipped (ring of 1 page, 32 segments)',
    vcpus: 2,
    icountVcpus: 1,
    memoryMib: 448,
    blkfront: {},
  },
  raised: {
    title: 'blkfront with a queue per vCPU (4; --icount: 1), rings of 4 pages, 64 segments',
    vcpus: 4,
    // A guest of two and more does not boot on the one CPU that counts; so it has one queue there.
    icountVcpus: 1,
    memoryMib: 900,
    blkfront: { max_queues: 4, max_ring_page_order: 2, max_indirect_segments: 64 },
  },
};

/** What block targets are. */
export const DISKS = {
  nvme: "dom0's emulated NVMe disk",
  null_blk: "the kernel's null_blk, which completes at once and moves no data",
};

export const QUICK = {
  peers: ['blkback', 'persistent', 'copy'],
  workloads: ['rr32', 'rw32', 'rr1', 'sr1m', 'sw1m'],
  guests: ['defaults'],
};

export const FULL = {
  peers: ['blkback', 'qdisk', 'ringdisk', 'nvme'],
  workloads: Object.keys(WORKLOADS).filter((name) => !ON_DEMAND.includes(name)),
  guests: Object.keys(GUESTS),
};

/** Tables rather than data: the image's data are holes, and few of them are written. */
export const IMAGES = {
  peers: ['raw', ...SETTINGS.flatMap((_, index) => [`q${index + 1}`, `r${index + 1}`])],
  workloads: ['sr1m', 'sw1m', 'rr32', 'rw32', 'rr1', 'rw1'],
  guests: ['defaults'],
};

/**
 * xen-blkback in its best configuration: as many queues and as large rings as a frontend may ask
 * for, and all the persistent grants those can use.
 */
export const BLKBACK_PARAMETERS = {
  max_queues: 8,
  max_ring_page_order: 4,
  max_persistent_grants: 65536,
};

/** @returns {Workload} */
function work(title, rw, bs, jobs, depth, mib) {
  return { title, rw, bs, jobs, depth, mib, unit: bs === '1m' ? 'mib' : 'iops' };
}
