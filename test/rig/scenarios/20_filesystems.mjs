// SPDX-License-Identifier: Apache-2.0
// File systems on every kind of target: data survives a remount, and what is removed becomes free
// space on the host, measured there.
import { Guest } from '../dom0/guest.mjs';
import { waitFor } from '../dom0/shell.mjs';
import { allocatedBytes, blockTarget, fileTarget, nvmeTarget } from '../dom0/targets.mjs';
import {
  FILES_BYTES,
  makeFileSystem,
  remountAndCompare,
  removeAndTrim,
  writeFiles,
} from '../dom0/workloads.mjs';

/** A file system's own blocks come and go meanwhile. */
const MOST = 0.95;
const DISCARD_MS = 30_000;
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
    if (full - empty < MOST * FILES_BYTES) {
      throw new Error(`writing ${mib(FILES_BYTES)} took ${mib(full - empty)} on the host`);
    }
    await guest.run(remountAndCompare(vdev, kind));
    await guest.run(removeAndTrim(vdev));
    await waitForSpace(target, full - MOST * FILES_BYTES);
    await guest.run(`umount /mnt/${vdev}`);
  };
}

/**
 * Both file systems discard removed blocks in the background, at their leisure.
 * @param {import('../dom0/targets.mjs').Target} target
 * @param {number} bytesMax it may still use
 */
async function waitForSpace(target, bytesMax) {
  const options = { timeoutMs: DISCARD_MS, everyMs: 500 };
  const freed = async () => (await allocatedBytes(target)) <= bytesMax;
  await waitFor('the removed space', freed, options).catch(async (error) => {
    const used = await allocatedBytes(target);
    throw new Error(`${error.message}: ${mib(used)} used, ${mib(bytesMax)} expected`);
  });
}

/** @param {number} bytes */
function mib(bytes) {
  return `${(bytes / (1 << 20)).toFixed(1)} MiB`;
}

/** @type {import('../dom0/catalogue.mjs').Scenario['tests']} */
const tests = {};
for (const kind of /** @type {const} */ (['ext4', 'xfs'])) {
  for (const [name, vdev] of Object.entries(VDEVS)) {
    const full = kind === 'xfs' ? name !== 'block' : name === 'block';
    tests[`${kind} on ${name}`] = { full, run: fileSystemTest(vdev, kind) };
  }
}

/** @type {import('../dom0/catalogue.mjs').Scenario[]} */
export const scenarios = [{ name: 'file systems', prepare, tests }];
