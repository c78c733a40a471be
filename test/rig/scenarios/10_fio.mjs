// SPDX-License-Identifier: Apache-2.0
// Data integrity under fio, for every kind of target, by what blkfront and the daemon agree on.
import { Guest } from '../dom0/guest.mjs';
import { blockTarget, fileTarget, nvmeTarget } from '../dom0/targets.mjs';
import { everyPattern } from '../dom0/workloads.mjs';

/**
 * More of everything. With persistent grants blkfront takes a page of its own for every segment of
 * every ring entry when it connects: 33 MiB for each of these queues.
 */
const RAISED = { max_queues: 4, max_ring_page_order: 2, max_indirect_segments: 64 };
/** All that the protocol has; persistent grants would take 526 MiB a queue. */
const FULL = {
  max_queues: 4,
  max_ring_page_order: 4,
  max_indirect_segments: 256,
  feature_persistent: 0,
};

const VDEVS = { block: 'xvda', nvme: 'xvdb', file: 'xvdc' };

/**
 * @param {string} name
 * @param {string} guest
 * @param {{ grants?: string, blkfront?: Record<string, number>, quick?: string[] }} options
 *   `quick`: the targets that are not for the full tier alone
 * @returns {import('../dom0/catalogue.mjs').Scenario}
 */
function fioScenario(name, guest, { grants, blkfront, quick = [] }) {
  const prepare = async () => {
    const disks = {
      xvda: await blockTarget(0),
      xvdb: await nvmeTarget(1),
      xvdc: await fileTarget(guest, 512 << 20),
    };
    const size = blkfront ? { vcpus: 4, memoryMib: 900 } : {};
    return Guest.create(guest, { disks, blkfront, ...size });
  };
  return {
    name: `fio, ${name}`,
    daemon: grants ? { grants } : {},
    prepare,
    tests: Object.fromEntries(
      Object.entries(VDEVS).map(([target, vdev]) => [
        target,
        { full: !quick.includes(target), run: (shared) => everyPattern(shared, vdev) },
      ]),
    ),
  };
}

/**
 * A medium with 4 KiB logical blocks under a guest that may write 512 bytes.
 * @type {import('../dom0/catalogue.mjs').Scenario}
 */
const finerThanTheMedium = {
  name: 'fio, a medium with 4 KiB blocks',
  prepare: () => Guest.create('fio-4k', {}),
  tests: {
    block: async (guest) => attachedPattern(guest, await blockTarget(2)),
    nvme: async (guest) => attachedPattern(guest, await nvmeTarget(2)),
  },
};

/** @param {Guest} guest @param {import('../dom0/targets.mjs').Target} target */
async function attachedPattern(guest, target) {
  await guest.attach('xvda', target);
  await everyPattern(guest, 'xvda');
  await guest.detach('xvda');
}

/** @type {import('../dom0/catalogue.mjs').Scenario[]} */
export const scenarios = [
  fioScenario('blkfront defaults', 'fio', { quick: ['block', 'nvme', 'file'] }),
  fioScenario('blkfront raised', 'fio-raised', { blkfront: RAISED }),
  fioScenario('all of blkif, no persistent grants', 'fio-full', {
    blkfront: FULL,
    quick: ['nvme', 'file'],
  }),
  finerThanTheMedium,
  fioScenario('grants=map', 'fio-map', { grants: 'map', blkfront: FULL }),
];
