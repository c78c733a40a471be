// SPDX-License-Identifier: Apache-2.0
// Limits, as a guest's fio sees them: how exact they are, changed while it runs, and that another
// disk does not notice.
import { Daemon, ringdisk } from '../dom0/daemon.mjs';
import { Guest } from '../dom0/guest.mjs';
import { assertQuiet, MARK } from '../dom0/guest_log.mjs';
import { note } from '../dom0/report.mjs';
import { blockTarget, fileTarget } from '../dom0/targets.mjs';
import { load, stopLoad } from '../dom0/workloads.mjs';

const MIB = 1 << 20;
/** The emulation's clock and fio's own ramp are in it: the benchmark is more exact. */
const TOLERANCE = 0.06;

const prepare = async () =>
  Guest.create('limits', {
    disks: { xvda: await blockTarget(0), xvdb: await fileTarget('limits', 300 * MIB) },
  });

/**
 * @param {Guest} guest
 * @param {string} how fio's options
 * @returns {Promise<number>} operations a second over 10 s
 */
async function measured(guest, how) {
  const [line = ''] = await guest.run(`fio --name=limited --filename=/dev/xvda --ioengine=libaio \\
  --direct=1 --thread --time_based --ramp_time=2 --runtime=10 --group_reporting ${how} \\
  --output-format=terse --output=/tmp/limits.out
awk -F ';' '{ print $8 + $49 }' /tmp/limits.out`);
  return Number(line);
}

/** @param {string} what @param {number} seen @param {number} expected */
function assertNear(what, seen, expected) {
  note(`${what}: ${seen} a second, limit ${expected}`);
  if (Math.abs(seen / expected - 1) > TOLERANCE) throw new Error(`${what}: ${seen}`);
}

/** @param {Guest} guest */
async function exact(guest) {
  const vbd = guest.vbd('xvda');
  await guest.run(`wait_for_disk xvda; ${MARK}`);
  const random = '--rw=randread --bs=4k --iodepth=16 --numjobs=2 --size=16M';
  await ringdisk('limit', vbd, '--iops', '300');
  assertNear('operations', await measured(guest, random), 300);
  await ringdisk('limit', vbd, '--reset');
  await ringdisk('limit', vbd, '--bps', '4M');
  assertNear('of 64 KiB', await measured(guest, '--rw=write --bs=64k --iodepth=4 --size=16M'), 64);
  await ringdisk('limit', vbd, '--reset');
  await assertQuiet(guest);
}

/** @param {Guest} guest */
async function served(guest) {
  const both = await Promise.all(['xvda', 'xvdb'].map((vdev) => guest.stats(vdev)));
  return both.map(({ counters }) => counters.reads + counters.writes);
}

/** Beside it the other disk goes on; killed and changed meanwhile. @param {Guest} guest */
async function beside(guest) {
  const vbd = guest.vbd('xvda');
  await guest.run(MARK);
  await ringdisk('limit', vbd, '--iops', '40');
  const busy = [
    await guest.start(load('xvda'), { timeoutMs: 300_000 }),
    await guest.start(load('xvdb'), { timeoutMs: 300_000 }),
  ];
  await guest.waitForLoad(['xvdb']);
  const before = await served(guest);
  await guest.run('sleep 5');
  const after = await served(guest);
  const [limited = 0, free = 0] = after.map((count, i) => count - (before[i] ?? 0));
  note(`in the same time ${limited} of the limited disk, ${free} of the other`);
  await Daemon.killAndStart();
  const kept = await ringdisk('limit', vbd);
  if (!kept.includes('40')) throw new Error(`after the daemon's death: ${kept}`);
  await ringdisk('limit', vbd, '--off');
  await guest.run(`sleep 2; ${stopLoad('xvda')}; ${stopLoad('xvdb')}`);
  await Promise.all(busy.map(({ ended }) => ended));
  if (free < 5 * limited) throw new Error('the other disk waits, too');
  await assertQuiet(guest);
}

/** @type {import('../dom0/catalogue.mjs').Scenario[]} */
export const scenarios = [
  {
    name: 'limits',
    prepare,
    full: true,
    tests: { 'as exact as they say': exact, 'beside another disk, over a death': beside },
  },
];
