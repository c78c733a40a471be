// SPDX-License-Identifier: Apache-2.0
// Images that other programs read and write: qcow2 with a chain of three, its program killed, the
// daemon killed, and space that fstrim gives back.
import { rm, stat } from 'node:fs/promises';
import { Daemon, ringdiskJson } from '../dom0/daemon.mjs';
import { Guest } from '../dom0/guest.mjs';
import { assertQuiet, MARK } from '../dom0/guest_log.mjs';
import { note } from '../dom0/report.mjs';
import { bash, waitFor } from '../dom0/shell.mjs';
import { FILES_DIR } from '../dom0/targets.mjs';
import {
  FILES_BYTES,
  load,
  makeFileSystem,
  randomMix,
  remountAndCompare,
  removeAndTrim,
  stopLoad,
  writeFiles,
} from '../dom0/workloads.mjs';

const MIB = 1 << 20;
const IMAGE = `${FILES_DIR}/top.qcow2`;
const LOAD_MS = 300_000;

/** Three images, each on the one before; the lowest has data that is seen through the others. */
async function makeChain() {
  await bash(`mkdir -p ${FILES_DIR}; cd ${FILES_DIR}
rm -f base.qcow2 middle.qcow2 top.qcow2
qemu-img create -q -f qcow2 base.qcow2 300M
qemu-io -f qcow2 -c 'write -P 0x61 280M 1M' base.qcow2 > /dev/null
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 middle.qcow2
qemu-io -f qcow2 -c 'write -P 0x62 281M 1M' middle.qcow2 > /dev/null
qemu-img create -q -f qcow2 -b middle.qcow2 -F qcow2 top.qcow2`);
}

async function prepare() {
  await makeChain();
  const guest = await Guest.create('formats', {});
  // Under emulation its program takes longer to start again than requests wait by default.
  await guest.attach('xvda', { spec: `on-error=stop:qcow2:${IMAGE}`, measured: IMAGE });
  await guest.run(`wait_for_disk xvda; ${MARK}`);
  return guest;
}

/** @param {Guest} guest @returns {Promise<number>} of the program that serves the image */
async function helperOf(guest) {
  const shown = await ringdiskJson('show', guest.vbd('xvda'));
  const pid = shown.vbd.target?.helper?.pid;
  if (!pid) throw new Error(`no helper is shown: ${JSON.stringify(shown).slice(0, 600)}`);
  return pid;
}

/** @param {Guest} guest */
async function verified(guest) {
  const [sums] = await guest.run(`dd if=/dev/xvda bs=1M skip=280 count=2 iflag=direct 2>/dev/null |
  tr -d 'ab' | wc -c`);
  if (sums?.trim() !== '0') throw new Error(`what the chain has is not seen: ${sums}`);
  await guest.run(randomMix('xvda'));
}

/** @param {Guest} guest */
async function helperKilled(guest) {
  const busy = await guest.start(load('xvda'), { timeoutMs: LOAD_MS });
  await guest.waitForLoad(['xvda']);
  const before = await helperOf(guest);
  await guest.run(MARK);
  process.kill(before, 'SIGKILL');
  await waitFor(
    'another program to serve the image',
    async () => (await helperOf(guest).catch(() => before)) !== before,
    { timeoutMs: 60_000 },
  );
  await guest.run(`sleep 3; ${stopLoad('xvda')}`);
  await busy.ended;
  await assertQuiet(guest);
}

/** @param {Guest} guest */
async function daemonKilled(guest) {
  const busy = await guest.start(load('xvda'), { timeoutMs: LOAD_MS });
  await guest.waitForLoad(['xvda']);
  const before = await helperOf(guest);
  await guest.run(MARK);
  for (let kill = 0; kill < 3; kill++) await Daemon.killAndStart();
  await guest.run(`sleep 3; ${stopLoad('xvda')}`);
  await busy.ended;
  const after = await helperOf(guest);
  if (after !== before) throw new Error(`the program was ${before}, and is ${after} now`);
  await assertQuiet(guest);
}

/** @param {Guest} guest */
async function trimmed(guest) {
  const used = async () => (await stat(IMAGE)).blocks * 512;
  await guest.run(makeFileSystem('xvda', 'ext4'));
  await guest.run(writeFiles('xvda'));
  await guest.run(remountAndCompare('xvda', 'ext4'));
  const full = await used();
  await guest.run(removeAndTrim('xvda'));
  const after = await used();
  note(`the image takes ${(full / MIB) | 0} MiB, after fstrim ${(after / MIB) | 0} MiB`);
  if (full - after < FILES_BYTES / 2) throw new Error('fstrim gave too little back');
  await guest.run('cd /; umount /mnt/xvda');
}

/** Its program ends with its last user, and the image is sound. @param {Guest} guest */
async function sound(guest) {
  const pid = await helperOf(guest);
  await guest.detach('xvda');
  const isGone = async () => !(await stat(`/proc/${pid}`).catch(() => undefined));
  await waitFor('the program to end', isGone, { timeoutMs: 60_000 });
  await bash(`qemu-img check -q -f qcow2 ${IMAGE}`);
  for (const name of ['base', 'middle', 'top']) await rm(`${FILES_DIR}/${name}.qcow2`);
}

/** @type {import('../dom0/catalogue.mjs').Scenario[]} */
export const scenarios = [
  {
    name: 'qcow2',
    prepare,
    full: true,
    tests: {
      'a chain of three under fio': verified,
      'its program killed under load': helperKilled,
      'the daemon killed under load': daemonKilled,
      'fstrim makes the image smaller': trimmed,
      'the image is sound when its disk is gone': sound,
    },
  },
];
