// SPDX-License-Identifier: Apache-2.0
// The frontends of other kernels than dom0's, which is Debian 13's: Debian 12's and the newest that
// Debian 13's backports have (image/kernels.sh).
import { setTimeout as sleep } from 'node:timers/promises';
import { Daemon } from '../dom0/daemon.mjs';
import { Guest, kernelArguments } from '../dom0/guest.mjs';
import { assertQuiet, MARK } from '../dom0/guest_log.mjs';
import { note } from '../dom0/report.mjs';
import { run } from '../dom0/shell.mjs';
import { blockTarget, fileTarget } from '../dom0/targets.mjs';
import { everyPattern, mixedLoad, randomMix, stopLoad, waitUntilGone } from '../dom0/workloads.mjs';

const MIB = 1 << 20;
const LOAD_MS = 240_000;

/** @param {string} kernel its name in /host/kernels */
async function create(kernel) {
  const ramdisk = `/run/rig/${kernel}.img`;
  await run('sh', ['-c', `cat /run/rig/guest.img /host/kernels/${kernel}.img > ${ramdisk}`]);
  const boot = [
    `kernel = "/host/kernels/${kernel}.vmlinux"`,
    `ramdisk = "${ramdisk}"`,
    `extra = "${kernelArguments('hvc0', { max_queues: 2 })}"`,
  ];
  const disks = { xvda: await blockTarget(0), xvdb: await fileTarget(kernel, 256 * MIB) };
  const guest = await Guest.create(kernel, { boot, disks });
  note((await guest.run('uname -r')).join(''));
  return guest;
}

/** @param {Guest} guest */
async function killedUnderLoad(guest) {
  await guest.run(MARK);
  const busy = await guest.start(mixedLoad('xvdb'), { timeoutMs: LOAD_MS });
  await guest.waitForLoad(['xvdb']);
  await Daemon.killAndStart();
  await sleep(2000);
  await guest.run(stopLoad('xvdb'));
  await busy.ended;
  await assertQuiet(guest);
}

/** @param {Guest} guest */
async function attachAndDetach(guest) {
  await guest.attach('xvdc', await fileTarget('come', 64 * MIB));
  await guest.run(randomMix('xvdc'));
  await guest.detach('xvdc');
  await guest.run(waitUntilGone('xvdc'));
}

/** @type {import('../dom0/catalogue.mjs').Scenario[]} */
export const scenarios = ['debian12', 'backports'].map((kernel) => ({
  name: `frontend of ${kernel}`,
  full: true,
  needs: 'kernels',
  prepare: () => create(kernel),
  tests: {
    'every pattern': (/** @type {Guest} */ guest) => everyPattern(guest, 'xvda'),
    'the daemon is killed under load': killedUnderLoad,
    'a disk comes and goes': attachAndDetach,
  },
}));
