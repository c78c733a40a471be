// SPDX-License-Identifier: Apache-2.0
// Several guests and several kinds of guests: side by side, destroyed under load, PVH.
import { setTimeout as sleep } from 'node:timers/promises';
import { Guest } from '../dom0/guest.mjs';
import { STRAY_EXIT } from '../dom0/guest_log.mjs';
import { note } from '../dom0/report.mjs';
import { run } from '../dom0/shell.mjs';
import { blockTarget, fileTarget, nvmeTarget } from '../dom0/targets.mjs';
import { everyPattern, load, randomMix } from '../dom0/workloads.mjs';

const MIB = 1 << 20;
const LOAD_MS = 4000;

/** Two guests with two disks each, all busy at once; with no hotplug script that does anything. */
async function sideBySide() {
  const plain = (/** @type {import('../dom0/targets.mjs').Target} */ target) => ({
    target,
    script: '/bin/true',
  });
  const first = await Guest.create('first', {
    disks: {
      xvda: plain(await blockTarget(0)),
      xvdb: plain(await fileTarget('first', 256 * MIB)),
    },
  });
  const second = await Guest.create('second', {
    disks: {
      xvda: plain(await nvmeTarget(1)),
      xvdb: plain(await fileTarget('second', 256 * MIB)),
    },
  });
  await Promise.all([
    everyPattern(first, 'xvda'),
    everyPattern(first, 'xvdb'),
    everyPattern(second, 'xvda'),
    everyPattern(second, 'xvdb'),
  ]);
  await Promise.all([first.destroy(), second.destroy()]);
}

async function destroyUnderLoad() {
  const disks = {
    xvda: await blockTarget(0),
    xvdb: await nvmeTarget(1),
    xvdc: await fileTarget('destroyed', 512 * MIB),
  };
  const victim = await Guest.create('victim', { disks });
  for (const vdev of Object.keys(disks)) await victim.start(load(vdev));
  await sleep(LOAD_MS);
  await victim.destroy();
  const heir = await Guest.create('heir', { disks });
  for (const vdev of Object.keys(disks)) await heir.run(randomMix(vdev));
  await heir.destroy();
}

async function pvh() {
  for (const name of ['pvh', 'pvh-again', 'pvh-third']) {
    try {
      return await pvhGuest(name);
    } catch (error) {
      if (name === 'pvh-third' || !STRAY_EXIT.test(await run('xl', ['dmesg']))) throw error;
      note('the guest died of the emulation; once more');
    }
  }
}

/** @param {string} name */
async function pvhGuest(name) {
  const disks = { xvda: await blockTarget(0), xvdb: await nvmeTarget(1) };
  const guest = await Guest.create(name, { type: 'pvh', onReboot: 'destroy', disks });
  await guest.run(randomMix('xvda'));
  await guest.run(randomMix('xvdb'));
  await guest.destroy();
}

/** @type {import('../dom0/catalogue.mjs').Scenario[]} */
export const scenarios = [
  {
    name: 'guests',
    tests: {
      'two with two disks each': { full: true, run: sideBySide },
      'destroyed under full load, then a new one on the same targets': destroyUnderLoad,
      'a PVH guest': pvh,
    },
  },
];
