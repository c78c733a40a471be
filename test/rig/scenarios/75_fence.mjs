// SPDX-License-Identifier: Apache-2.0
// A write that its dead daemon left behind in the kernel must not land on top of a newer one: the
// next daemon's writes wait for it. The write is delayed by throttling the cgroup of the daemon
// that is then killed: those of the next daemon would overtake it, which they can't in a device
// that is slow for everybody.
import { mkdir, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { Daemon, quickStats, ringdisk } from '../dom0/daemon.mjs';
import { Guest } from '../dom0/guest.mjs';
import { assertQuiet, MARK } from '../dom0/guest_log.mjs';
import { note } from '../dom0/report.mjs';
import { run, waitFor } from '../dom0/shell.mjs';
import { blockTarget } from '../dom0/targets.mjs';

const CGROUPS = '/sys/fs/cgroup';
/** Of writes: 4 KiB take minutes, so that nothing ends before the test says so. */
const BYTES_PER_SECOND = 10;
const DELAY_MS = 5000;
const LANDED_MS = 60_000;
/** Beside other work on the machine a daemon has taken minutes to start. */
const WRITES_MS = 400_000;
/** For what it starts flock() always succeeds: see test/rig/unfenced.c. */
const UNFENCED = '/host/unfenced';
const BLOCK = 'bs=4k count=1';

/** Writes of one process to one device, held up in the kernel. */
class HeldWrites {
  /** @param {string} device its numbers */
  constructor(device) {
    this.device = device;
  }

  /** @param {number} pid @param {string} path of the device */
  static async of(pid, path) {
    await run('mount', ['-t', 'cgroup2', 'cgroup2', CGROUPS]).catch(() => '');
    await writeFile(`${CGROUPS}/cgroup.subtree_control`, '+io');
    await mkdir(`${CGROUPS}/held`, { recursive: true });
    const held = new HeldWrites((await run('lsblk', ['-dno', 'MAJ:MIN', path])).trim());
    await held.#limit(String(BYTES_PER_SECOND));
    await writeFile(`${CGROUPS}/held/cgroup.procs`, String(pid));
    return held;
  }

  /** They land now. */
  release() {
    return this.#limit('max');
  }

  /** @param {string} bytesPerSecond */
  async #limit(bytesPerSecond) {
    await writeFile(`${CGROUPS}/held/io.max`, `${this.device} wbps=${bytesPerSecond}`);
  }
}

/**
 * @param {import('../dom0/targets.mjs').Target} target
 * @returns {Promise<string>} A, B or nothing
 */
async function onMedium({ spec }) {
  const block = await run('dd', [`if=${spec}`, 'bs=4k', 'count=1', 'iflag=direct']);
  const [first = ''] = block;
  if (block !== first.repeat(4096)) throw new Error('the block on the medium is torn');
  return first.replace('\0', '');
}

/**
 * The guest writes A, then B to the same place. The daemon dies over A, which stays behind in the
 * kernel; the next one has A in its journal.
 * @param {string} name of the guest
 * @param {import('../dom0/targets.mjs').Target} target
 * @param {string} [launcher] of the next daemon
 */
async function killOverWrite(name, target, launcher) {
  const daemon = Daemon.current;
  if (!daemon) throw new Error('there is no daemon');
  const guest = await Guest.create(name, { disks: { xvda: target } });
  await guest.run(`wait_for_disk xvda; ${MARK}
tr '\\0' A < /dev/zero | head -c 4096 > /tmp/A
tr '\\0' B < /dev/zero | head -c 4096 > /tmp/B
dd if=/dev/zero of=/dev/xvda bs=64k count=1 oflag=direct 2>/dev/null`);
  const held = await HeldWrites.of(daemon.pid, target.spec);
  const write = (/** @type {string} */ what) =>
    `dd if=/tmp/${what} of=/dev/xvda ${BLOCK} oflag=direct 2>/dev/null`;
  const writes = await guest.start(`${write('A')}\n${write('B')}`, { timeoutMs: WRITES_MS });
  await sleep(1000);
  if ((await onMedium(target)) !== '') throw new Error('the first write was not held up');
  const killedAt = Date.now();
  await Daemon.killAndStart(launcher);
  return { guest, held, writes, killedAt };
}

async function writeLeftBehind() {
  const target = await blockTarget(0);
  const { guest, held, writes, killedAt } = await killOverWrite('fenced', target);
  if (!/\(fenced\)/.test(await ringdisk('list'))) throw new Error('the list does not say fenced');
  await guest.run(`dd if=/dev/xvda skip=8 ${BLOCK} iflag=direct of=/dev/null 2>/dev/null`);
  note(`a read was answered ${Date.now() - killedAt} ms after the kill, writes fenced`);
  await sleep(DELAY_MS);
  const { vbds } = await quickStats();
  if (!vbds[0].fencedSince) throw new Error('stats does not say fenced');
  if ((await onMedium(target)) !== '') throw new Error('something was written under the fence');
  note(`the old write was let go ${Date.now() - killedAt} ms after the kill`);
  await held.release();
  await writes.ended;
  await sleep(DELAY_MS);
  const [seen] = await guest.run(`dd if=/dev/xvda ${BLOCK} iflag=direct 2>/dev/null | head -c 1
echo`);
  const stored = await onMedium(target);
  if (seen !== 'B' || stored !== 'B') throw new Error(`the guest reads ${seen}, stored ${stored}`);
  await assertQuiet(guest);
  await guest.destroy();
}

/** That the test above can fail: without the fence the guest's newer data is lost. */
async function withoutTheFence() {
  const target = await blockTarget(1);
  const { guest, held, writes } = await killOverWrite('unfenced', target, UNFENCED);
  try {
    await writes.ended;
    if ((await onMedium(target)) !== 'B') throw new Error('the newer write has not landed');
    await held.release();
    const isOld = async () => (await onMedium(target)) === 'A';
    await waitFor('the old write to land', isOld, { timeoutMs: LANDED_MS });
    note('the older write replaced the newer one, which had been answered');
    await guest.destroy();
  } finally {
    await Daemon.killAndStart();
  }
}

/** @type {import('../dom0/catalogue.mjs').Scenario[]} */
export const scenarios = [
  {
    name: 'fence',
    // The harder case: pages that are mapped when the daemon dies.
    daemon: { grants: 'persistent' },
    tests: {
      'a write the dead daemon left behind': writeLeftBehind,
      'without the fence it lands on a newer one': { full: true, run: withoutTheFence },
    },
  },
];
