// SPDX-License-Identifier: Apache-2.0
// A disk that moves while its guest works on it: to an NBD export, whose server goes away, and from
// a file to an NVMe disk, the daemon killed meanwhile.
import { setTimeout as sleep } from 'node:timers/promises';
import { Daemon, ringdisk, ringdiskJson } from '../dom0/daemon.mjs';
import { Guest } from '../dom0/guest.mjs';
import { assertQuiet, MARK } from '../dom0/guest_log.mjs';
import { note } from '../dom0/report.mjs';
import { bash, waitFor } from '../dom0/shell.mjs';
import { allocatedBytes, blockTarget, fileTarget } from '../dom0/targets.mjs';
import { load, stopLoad } from '../dom0/workloads.mjs';

const MIB = 1 << 20;
const DISK_BYTES = 128 * MIB;
const LOAD_MS = 300_000;
const COPY_MS = 240_000;
const SOCKET = '/run/ringdisk/nbd/elsewhere.sock';

async function prepare() {
  const guest = await Guest.create('mirror', {
    disks: { xvda: await fileTarget('mirrored', DISK_BYTES) },
  });
  await guest.run(`wait_for_disk xvda; ${MARK}
dd if=/dev/urandom of=/dev/xvda bs=1M count=48 oflag=direct conv=fsync 2>/dev/null`);
  return guest;
}

/** @param {Guest} guest */
async function mirrorOf(guest) {
  const { vbd } = await ringdiskJson('show', guest.vbd('xvda'));
  return vbd.mirror;
}

/** @param {Guest} guest @param {string} state */
async function untilMirror(guest, state) {
  const isSo = async () => (await mirrorOf(guest))?.state === state;
  await waitFor(`the mirror to be ${state}`, isSo, { timeoutMs: COPY_MS, everyMs: 500 });
}

/** @param {Guest} guest @param {string} path what the disk is to be by now */
async function assertIs(guest, path) {
  const { vbd } = await ringdiskJson('show', guest.vbd('xvda'));
  if (vbd.target?.path === path && vbd.target.isSwitched) return;
  throw new Error(`the disk is not ${path}: ${JSON.stringify(vbd).slice(0, 600)}`);
}

/** @param {Guest} guest @param {string} one @param {string} other */
async function assertAlike(guest, one, other) {
  await guest.run('blockdev --flushbufs /dev/xvda; sync');
  await bash(`cmp -n ${DISK_BYTES} ${one} ${other}`, { timeoutMs: 120_000 });
}

/** @param {Guest} guest @param {() => Promise<unknown>} body */
async function underLoad(guest, body) {
  const busy = await guest.start(load('xvda', '64M'), { timeoutMs: LOAD_MS });
  await guest.waitForLoad(['xvda']);
  await body();
  await guest.run(`sleep 3; ${stopLoad('xvda')}`);
  await busy.ended;
}

/** @param {Guest} guest */
async function toExport(guest) {
  const vbd = guest.vbd('xvda');
  const copy = await fileTarget('elsewhere', DISK_BYTES);
  await ringdisk('export', 'add', copy.spec, '--socket', SOCKET, '--name', 'elsewhere');
  const target = `nbd:unix:${SOCKET}:exportname=elsewhere`;
  const { vbd: before } = await ringdiskJson('show', vbd);
  try {
    await guest.run(MARK);
    await underLoad(guest, async () => {
      await ringdisk('mirror', 'start', vbd, target);
      await sleep(2000);
      await ringdisk('mirror', 'set', vbd, '--mode', 'sync');
      await untilMirror(guest, 'ready');
    });
    await assertAlike(guest, before.target.path, copy.spec);
    const mib = (await allocatedBytes(copy)) / MIB;
    note(`of 128 MiB the copy takes ${mib.toFixed(1)} MiB`);
    if (mib > 96) throw new Error('holes were written');
  } finally {
    await ringdisk('export', 'remove', 'elsewhere');
  }
  // Its server has gone: the mirror ends, and the guest notices nothing.
  await underLoad(guest, () => untilMirror(guest, 'failed'));
  await ringdisk('mirror', 'stop', vbd);
  await assertQuiet(guest);
}

/** @param {Guest} guest */
async function toNvme(guest) {
  const vbd = guest.vbd('xvda');
  const { vbd: before } = await ringdiskJson('show', vbd);
  const { spec } = await blockTarget(1);
  // Nothing of what lay there may be taken for the disk's.
  await bash(
    `dd if=/dev/urandom of=${spec} bs=1M count=${DISK_BYTES / MIB} conv=fsync 2>/dev/null`,
  );
  await underLoad(guest, async () => {
    await ringdisk('mirror', 'start', vbd, spec, '--rate', '8M', '--mode', 'sync');
    for (let kill = 0; kill < 3; kill++) {
      await sleep(1500);
      await Daemon.killAndStart();
    }
    await ringdisk('mirror', 'set', vbd, '--rate', 'off');
    await untilMirror(guest, 'ready');
  });
  await assertAlike(guest, before.target.path, spec);
  await underLoad(guest, async () => {
    await ringdisk('mirror', 'switch', vbd);
    await waitFor('the switch', async () => !(await mirrorOf(guest)), { timeoutMs: COPY_MS });
  });
  await assertIs(guest, spec);
  // What it was has nothing to do with it any more, for whoever comes next neither.
  await bash(
    `dd if=/dev/zero of=${before.target.path} bs=1M count=16 conv=notrunc,fsync 2>/dev/null`,
  );
  await underLoad(guest, () => Daemon.killAndStart());
  await assertIs(guest, spec);
  // It is as large as the NVMe disk by now.
  const read = `head -c ${DISK_BYTES} /dev/xvda | sha256sum`;
  const [sum] = await guest.run(`sync; ${read} | cut -d ' ' -f 1`);
  const there = await bash(`head -c ${DISK_BYTES} ${spec} | sha256sum`, { timeoutMs: 120_000 });
  if (!there.startsWith(String(sum))) throw new Error(`the guest has ${sum}, the disk is ${there}`);
  await assertQuiet(guest, /Setting capacity|capacity change/);
}

/** @type {import('../dom0/catalogue.mjs').Scenario[]} */
export const scenarios = [
  {
    name: 'mirror',
    prepare,
    full: true,
    tests: {
      'to an NBD export that goes away': toExport,
      'from a file to NVMe under load, the daemon killed, switched': {
        timeoutMs: 900_000,
        run: toNvme,
      },
    },
  },
];
