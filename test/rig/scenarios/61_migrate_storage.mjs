// SPDX-License-Identifier: Apache-2.0
// A guest moves to another host with its disk, while it works on it. The other host is a second
// daemon of dom0's that serves another kind of disks; the guest's memory goes by a file, in the
// steps of `xl migrate` (see 47_migration.mjs).
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { LOG, MAIN, quickStats } from '../dom0/daemon.mjs';
import { diskLine, Guest } from '../dom0/guest.mjs';
import { note } from '../dom0/report.mjs';
import { bash, run, waitFor } from '../dom0/shell.mjs';
import { fileTarget } from '../dom0/targets.mjs';
import { mixedLoad, randomMix, stopLoad } from '../dom0/workloads.mjs';

const MIB = 1 << 20;
const DISK_BYTES = 128 * MIB;
const LOAD_MS = 600_000;
const MOVE_MS = 480_000;
const START_MS = 180_000;
const THERE = '/run/ringdisk-there';
const SOCKET = `${THERE}/moved.sock`;
const IMAGE = '/var/lib/rig/moved-memory';
const CONFIG = '/run/rig/migrant-there.cfg';
const MOVE = '/run/rig/move';
/** When each step of the move was over, in seconds. */
const TIMES = '/run/rig/move-times';
/** Else the kernel loads it for the second daemon's kind of disks. */
const NO_BLKBACK = '/etc/modprobe.d/no-xen-blkback.conf';
/** As a host's own script for block devices. */
const SCRIPT = '/run/rig/block-there';

async function prepare() {
  await writeFile(SCRIPT, '#!/bin/sh\nxenstore-write "$XENBUS_PATH/hotplug-status" connected\n', {
    mode: 0o755,
  });
  return Guest.create('migrant', {
    disks: { xvda: await fileTarget('migrant', DISK_BYTES) },
    blkfront: { max_queues: 2 },
    memoryMib: 200,
  });
}

/** @param {string[]} args of a command for that daemon */
function there(...args) {
  return run('node', [MAIN, ...args, '--runtime-dir', THERE], { timeoutMs: START_MS });
}

/** @returns {Promise<() => Promise<void>>} what ends it */
async function startThere() {
  const log = openSync(LOG, 'a');
  const args = [MAIN, 'serve', '--runtime-dir', THERE, '--backend', 'vbd'];
  const child = spawn('node', args, { stdio: ['ignore', log, log] });
  closeSync(log);
  const exited = new Promise((resolve) => child.once('exit', resolve));
  const answers = () => quickStats(THERE).catch(() => undefined);
  await waitFor('the other daemon', answers, { timeoutMs: START_MS });
  return async () => {
    child.kill('SIGTERM');
    await exited;
  };
}

/** @param {Guest} guest @param {string} device where its disk is to be */
async function writeMove(guest, device) {
  const before = await bash(`cat /run/rig/${guest.name}.cfg`);
  const target = { spec: device, measured: '/dev/null' };
  const disk = diskLine('xvda', { target, backend: 'phy', script: SCRIPT });
  await writeFile(CONFIG, before.replace(/^disk = .*$/m, `disk = ['${disk}']`));
  const times = `date +%s.%N >> ${TIMES}`;
  await writeFile(
    MOVE,
    `set -e
rm -f ${TIMES}
${times}
xl save -p ${guest.name} ${IMAGE}
xl rename ${guest.name} ${guest.name}--outgoing
${times}
xl restore ${CONFIG} ${IMAGE}
${times}
xl destroy ${guest.domid}
${times}
rm ${IMAGE}
`,
  );
}

async function connectedAt() {
  const isConnected = async () => {
    const { vbds } = await quickStats(THERE);
    return vbds.some((/** @type {any} */ { counters }) => counters.reads + counters.writes > 0);
  };
  await waitFor('the disk at its new place', isConnected, { timeoutMs: MOVE_MS, everyMs: 20 });
  return Date.now() / 1000;
}

/** @param {Guest} guest */
async function moves(guest) {
  const { spec: file } = await fileTarget('migrant-there', DISK_BYTES);
  const device = (await run('losetup', ['--find', '--show', '--direct-io=on', file])).trim();
  await writeFile(NO_BLKBACK, 'install xen-blkback /bin/false\n');
  const end = await startThere();
  try {
    await writeMove(guest, device);
    const place = ['--name', 'moved', '--socket', SOCKET];
    await there('export', 'add', device, '--hand-over', ...place);
    const busy = await guest.start(mixedLoad('xvda'), { timeoutMs: LOAD_MS });
    await guest.waitForLoad(['xvda']);
    const target = `nbd:unix:${SOCKET}:exportname=moved`;
    const pair = `${guest.vbd('xvda')}=${target}`;
    const args = [MAIN, 'migrate-storage', pair, '--run', `sh ${MOVE}`];
    const moved = run('node', args, { timeoutMs: MOVE_MS });
    const seen = connectedAt();
    await moved;
    const served = await seen;
    await guest.follow();
    // Verified on its new disk, too.
    await guest.run(`sleep 2; ${stopLoad('xvda')}`);
    await guest.endOf(busy, { timeoutMs: LOAD_MS });
    await guest.run(randomMix('xvda', '64M'));
    const [saving = 0, saved = 0, restored = 0, destroyed = 0] = (await bash(`cat ${TIMES}`))
      .split('\n')
      .map(Number);
    const [save, restore] = [saved - saving, restored - saved].map((time) => time.toFixed(1));
    const answered = (served - destroyed).toFixed(2);
    note(`saved in ${save} s, restored in ${restore} s`);
    note(`the disk answered ${answered} s after the end of the one before`);
    const exported = await there('export', 'list');
    if (exported.includes('moved')) throw new Error('the export is still there');
    await guest.destroy();
  } finally {
    await end();
    await rm(NO_BLKBACK);
    await run('losetup', ['-d', device]);
  }
}

/** @type {import('../dom0/catalogue.mjs').Scenario[]} */
export const scenarios = [
  {
    name: 'storage migration',
    full: true,
    prepare,
    tests: { 'a guest moves with its disk under load': { timeoutMs: 2 * MOVE_MS, run: moves } },
  },
];
