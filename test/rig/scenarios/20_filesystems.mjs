// SPDX-License-Identifier: Apache-2.0
// File systems on every kind of target: data survives a remount, and what is removed becomes free
// space on the host, measured there.
import { Guest } from '../dom0/guest.mjs';
import { allocatedBytes, blockTarget, fileTarget, nvmeTarget } from '../dom0/targets.mjs';
import {
  FILES_BYTES,
  makeFileSystem,
  remountAndCompare,
  removeAndTrim,
  writeFiles,
} from '../dom0/workloads.mjs';

const VDEVS = { block: 'xvda', nvme: 'xvdb', file: 'xvdc' };

async function prepare() {
  const targets = {
    xvda: await blockTarget(0),
    xvdb: await nvmeTarget(1),
    xvdc: await fileTarget('files', 768 << 20),
  };
  return { targets, guest: await Guest.create('files', { disks: targets }) };
}

/** @param {string} vdev @param {'ext4' | 'xfs'} kind */
function fileSystemTest(vdev, kind) {
  /** @param {Awaited<ReturnType<typeof prepare>>} shared */
  return async ({ guest, targets }) => {
    const target = targets[/** @type {keyof typeof targets} */ (vdev)];
    await guest.run(makeFileSystem(vdev, kind));
    const empty = await allocatedBytes(target);
    await guest.run(writeFiles(vdev));
    const full = await allocatedBytes(target);
    assertAtLeast('writing files took', full - empty, FILES_BYTES);
    await guest.run(remountAndCompare(vdev, kind));
    await guest.run(removeAndTrim(vdev));
    const trimmed = await allocatedBytes(target);
    assertAtLeast('removing them gave back', full - trimmed, 0.95 * FILES_BYTES);
    await guest.run(`umount /mnt/${vdev}`);
  };
}

/** @param {string} what @param {number} bytes @param {number} least */
function assertAtLeast(what, bytes, least) {
  if (bytes >= least) return;
  const mib = (/** @type {number} */ value) => (value / (1 << 20)).toFixed(1);
  throw new Error(`${what} ${mib(bytes)} MiB on the host, less than ${mib(least)} MiB`);
}

/** @type {import('../dom0/catalogue.mjs').Scenario['tests']} */
const tests = {};
for (const kind of /** @type {const} */ (['ext4', 'xfs'])) {
  for (const [name, vdev] of Object.entries(VDEVS)) {
    tests[`${kind} on ${name}`] = fileSystemTest(vdev, kind);
  }
}

/** @type {import('../dom0/catalogue.mjs').Scenario[]} */
export const scenarios = [{ name: 'file systems', prepare, tests }];
