// SPDX-License-Identifier: Apache-2.0
// A guest is saved, restored, suspended and migrated while it works on its disks: the domain that
// goes on is another one, with other rings, and must find every byte.
import { rm } from 'node:fs/promises';
import { Guest } from '../dom0/guest.mjs';
import { run } from '../dom0/shell.mjs';
import { blockTarget, fileTarget } from '../dom0/targets.mjs';
import { mixedLoad, randomMix, stopLoad } from '../dom0/workloads.mjs';

const MIB = 1 << 20;
const LOAD_MS = 300_000;
const SAVE_MS = 240_000;
const MIGRATE_MS = 600_000;
const IMAGE = '/var/lib/rig/saved';
const VDEVS = ['xvda', 'xvdb'];

/**
 * Runs `move` while the guest's disks are busy, and checks all that was read and written.
 * @param {Guest} guest
 * @param {() => Promise<unknown>} move
 */
async function underLoad(guest, move) {
  const busy = [];
  for (const vdev of VDEVS) busy.push(await guest.start(mixedLoad(vdev), { timeoutMs: LOAD_MS }));
  await guest.waitForLoad(VDEVS);
  await move();
  await guest.follow();
  const ended = busy.map((job) => guest.endOf(job, { timeoutMs: LOAD_MS }));
  // Verified on its new rings, too.
  await guest.run(`sleep 2; ${VDEVS.map(stopLoad).join('; ')}`);
  await Promise.all(ended);
  for (const vdev of VDEVS) await guest.run(randomMix(vdev));
}

/** @param {Guest} guest */
async function saveAndRestore(guest) {
  await underLoad(guest, async () => {
    await run('xl', ['save', guest.name, IMAGE], { timeoutMs: SAVE_MS });
    await run('xl', ['restore', IMAGE], { timeoutMs: SAVE_MS });
    await rm(IMAGE);
  });
}

/** @param {Guest} guest that is suspended, looked at and goes on as the same domain */
async function suspendAndResume(guest) {
  await underLoad(guest, async () => {
    await run('xl', ['suspend', guest.name], { timeoutMs: SAVE_MS });
    await run('xl', ['resume', guest.name], { timeoutMs: SAVE_MS });
  });
}

/**
 * What `xl migrate` does to the disks of a guest that stays on its host: those of the incoming
 * domain are attached while the outgoing one still has them. Under load, and so with the guest's
 * memory by way of a file: test/rig/README.md, "What the emulation can't tell".
 * @param {Guest} guest
 */
async function moveWithinHost(guest) {
  const outgoing = guest.domid;
  await underLoad(guest, async () => {
    await run('xl', ['save', '-p', guest.name, IMAGE], { timeoutMs: SAVE_MS });
    await run('xl', ['rename', guest.name, `${guest.name}--outgoing`]);
    await run('xl', ['restore', IMAGE], { timeoutMs: SAVE_MS });
    await run('xl', ['destroy', String(outgoing)]);
    await rm(IMAGE);
  });
}

const SUM = 'dd if=/dev/xvda bs=1M count=4 iflag=direct 2>/dev/null | sha256sum';

/**
 * By xl itself; its disks are idle meanwhile. What it prints afterwards goes to another log, that
 * of the name that the incoming domain had at first, so that only a job's status tells.
 * @param {Guest} guest
 */
async function migrate(guest) {
  await guest.run(`wait_for_disk xvda
dd if=/dev/urandom of=/dev/xvda bs=1M count=4 oflag=direct 2>/dev/null
${SUM} > /tmp/sum`);
  for (const _there_and_back of [1, 2]) {
    // No ssh: with an empty command xl takes the host for one.
    const how = ['migrate', '-s', '', guest.name, 'xl migrate-receive'];
    await run('xl', how, { timeoutMs: MIGRATE_MS });
    await guest.follow();
    await guest.run(`${SUM} | cmp - /tmp/sum`);
    for (const vdev of VDEVS) await guest.run(randomMix(vdev, '64M'));
  }
}

/** @param {string} name @param {'pv' | 'pvh'} type */
async function create(name, type) {
  return Guest.create(name, {
    type,
    disks: { xvda: await blockTarget(0), xvdb: await fileTarget(name, 256 * MIB) },
    blkfront: { max_queues: 2 },
    memoryMib: 200,
  });
}

/** @type {import('../dom0/catalogue.mjs').Scenario[]} */
export const scenarios = [
  {
    name: 'migration',
    prepare: () => create('moved', 'pv'),
    tests: {
      'saved and restored under load': { full: true, run: saveAndRestore },
      'suspended and resumed in place': suspendAndResume,
      'both ends within the host, under load': moveWithinHost,
    },
  },
  {
    name: 'live migration',
    full: true,
    prepare: () => create('moving', 'pvh'),
    tests: { 'to its own host, by xl': { timeoutMs: 2 * MIGRATE_MS, run: migrate } },
  },
];
