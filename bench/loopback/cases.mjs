// SPDX-License-Identifier: Apache-2.0
// What `npm run bench` measures: for each case the target, what is done with it, and who does it.
import { availableParallelism } from 'node:os';

/**
 * @typedef {object} Case
 * @property {string} name
 * @property {'null' | 'loop' | 'file'} target
 * @property {Record<string, string | number>} settings for every peer: bench/native/settings.h
 * @property {Record<string, Record<string, string | number>>} peers `what` is ringdisk_bench's
 *   first argument, or fio
 * @property {string} against the peer that the others are compared with
 * @property {() => string | undefined} [missing] why it can't be measured here
 */

const OURS = {
  'ringdisk, persistent': { what: 'ringdisk', grants: 'persistent' },
  'ringdisk, copy': { what: 'ringdisk', grants: 'copy' },
};
const NEVER_POLLING = { what: 'ringdisk', grants: 'persistent', poll_us: 0 };
const LOOPS = { io_uring: { what: 'uring' }, fio: { what: 'fio' } };
const PAGE = { block: 4096 };
const LARGE = { block: 1 << 20, depth: 8 };

/** The frontend, each reactor and the kernel's own threads want a CPU each. */
const CPUS_FOR_TWO_REACTORS = 5;

/** @type {Case[]} */
export const CASES = [
  nullCase('null, 4 KiB read, QD 32', { ...PAGE, depth: 32 }),
  nullCase('null, 4 KiB read, QD 128', { ...PAGE, depth: 128, ring_order: 2 }),
  nullCase('null, 4 KiB read, QD 1', { ...PAGE, depth: 1 }),
  ...mediumCases('loop'),
  ...mediumCases('file'),
  {
    name: 'null, 4 KiB read, two reactors',
    target: 'null',
    settings: { ...PAGE, depth: 32, grants: 'copy' },
    peers: {
      'one queue, one reactor': { what: 'ringdisk', queues: 1, reactors: 1 },
      'two queues, two reactors': { what: 'ringdisk', queues: 2, reactors: 2 },
    },
    against: 'one queue, one reactor',
    missing: () =>
      availableParallelism() < CPUS_FOR_TWO_REACTORS
        ? `two reactors and two frontends need ${CPUS_FOR_TWO_REACTORS} CPUs, not ` +
          `${availableParallelism()}`
        : undefined,
  },
];

/** @param {string} name @param {Record<string, number>} settings @returns {Case} */
function nullCase(name, settings) {
  const peers = { limit: { what: 'limit' }, ...OURS };
  return { name, target: 'null', settings, peers, against: 'limit' };
}

/** @param {'loop' | 'file'} target @returns {Case[]} */
function mediumCases(target) {
  const work = {
    '4 KiB read, QD 32': { ...PAGE, depth: 32 },
    '4 KiB write, QD 32': { ...PAGE, depth: 32, operation: 'write' },
    '4 KiB read, QD 1': { ...PAGE, depth: 1 },
    '1 MiB read, QD 8': LARGE,
  };
  return Object.entries(work).map(([name, settings]) => ({
    name: `${target}, ${name}`,
    target,
    settings,
    peers: { ...LOOPS, ...OURS, 'ringdisk, never polling': NEVER_POLLING },
    against: 'io_uring',
  }));
}
