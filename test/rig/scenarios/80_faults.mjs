// SPDX-License-Identifier: Apache-2.0
// Devices that fail, fill up and hang: the guest is told of exactly the requests that failed, its
// other disks go on, and all is well again when the device is.
import { execFileSync } from 'node:child_process';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { ringdiskJson } from '../dom0/daemon.mjs';
import { Guest } from '../dom0/guest.mjs';
import { note } from '../dom0/report.mjs';
import { run } from '../dom0/shell.mjs';
import { blockTarget, fileTarget } from '../dom0/targets.mjs';
import { load, randomMix, stopLoad } from '../dom0/workloads.mjs';

const MIB = 1 << 20;
const SECTORS = (64 * MIB) / 512;
const BLOCK_SECTORS = 8;

/** A device-mapper device over a loop device, whose table can be exchanged under its user. */
class Mapped {
  /** @param {string} name @param {string} under */
  constructor(name, under) {
    this.name = name;
    this.under = under;
  }

  /** @param {string} name of 64 MiB; linear at first */
  static async create(name) {
    const { measured } = await fileTarget(name, 64 * MIB);
    const under = (await run('losetup', ['--find', '--show', '--direct-io=on', measured])).trim();
    const mapped = new Mapped(name, under);
    await run('dmsetup', ['create', name, '--table', mapped.linear()]);
    return mapped;
  }

  get target() {
    return { spec: `/dev/mapper/${this.name}`, measured: this.under };
  }

  /** @param {number} [start] sectors @param {number} [length] */
  linear(start = 0, length = SECTORS - start) {
    return `${start} ${length} linear ${this.under} ${start}`;
  }

  /** @param {string} table of device-mapper */
  async become(table) {
    await run('dmsetup', ['load', this.name, '--table', table]);
    await run('dmsetup', ['resume', this.name]);
  }

  remove() {
    execFileSync('dmsetup', ['remove', '--retry', this.name]);
    execFileSync('losetup', ['--detach', this.under]);
  }
}

/**
 * Gives a guest a mapped device as xvdb; whatever happens, both are gone afterwards.
 * @param {Guest} guest
 * @param {string} name
 * @param {(mapped: Mapped) => Promise<unknown>} body
 */
async function withMapped(guest, name, body) {
  const mapped = await Mapped.create(name);
  try {
    await guest.attach('xvdb', mapped.target);
    await guest.run('wait_for_disk xvdb');
    await body(mapped);
    await guest.detach('xvdb');
    await guest.run('until [ ! -e /dev/xvdb ]; do sleep 0.2; done', { timeoutMs: 30_000 });
  } finally {
    await run('dmsetup', ['resume', name]).catch(() => '');
    mapped.remove();
  }
}

/** @param {Guest} guest @param {string} vdev @returns {Promise<any>} its counters */
async function counters(guest, vdev) {
  const { vbds } = await ringdiskJson('stats');
  return vbds.find((/** @type {any} */ { name }) => name.endsWith(guest.vbd(vdev))).counters;
}

/** Writes and reads 48 blocks one by one; says the numbers of those that failed. */
const BLOCK_BY_BLOCK = `for i in $(seq 0 47); do
  dd if=/dev/zero of=/dev/xvdb bs=4k seek=$i count=1 oflag=direct 2>/dev/null || echo "w$i"
  dd if=/dev/xvdb of=/dev/null bs=4k skip=$i count=1 iflag=direct 2>/dev/null || echo "r$i"
done`;

/** @param {Guest} guest */
async function badSectors(guest) {
  await withMapped(guest, 'bad', async (mapped) => {
    const [from, count] = [16, 16];
    const end = (from + count) * BLOCK_SECTORS;
    const hole = `${from * BLOCK_SECTORS} ${count * BLOCK_SECTORS} error`;
    await mapped.become(
      [mapped.linear(0, from * BLOCK_SECTORS), hole, mapped.linear(end)].join('\n'),
    );
    const failed = await guest.run(BLOCK_BY_BLOCK);
    const expected = Array.from({ length: count }, (_, i) => [`w${from + i}`, `r${from + i}`]);
    if (failed.join() !== expected.join()) throw new Error(`failed: ${failed}`);
    const { ioErrors } = await counters(guest, 'xvdb');
    note(`${failed.length} requests failed in the guest, ioErrors ${ioErrors}`);
    if (ioErrors !== failed.length) throw new Error(`ioErrors is ${ioErrors}`);
    await mapped.become(mapped.linear());
    const after = await guest.run(BLOCK_BY_BLOCK);
    if (after.length > 0) throw new Error(`still failing: ${after}`);
    await guest.run(randomMix('xvdb'));
  });
}

/** Works for a second, fails for a second. @param {Guest} guest */
async function flakyDevice(guest) {
  await withMapped(guest, 'flaky', async (mapped) => {
    const busy = await guest.start(load('xvda'));
    await mapped.become(`0 ${SECTORS} flakey ${mapped.under} 0 1 1`);
    const lines = await guest.run(`fio --name=flaky --filename=/dev/xvdb --ioengine=libaio \\
  --direct=1 --rw=randrw --bs=4k --iodepth=8 --size=2M --time_based --runtime=8 \\
  --continue_on_error=io --output=/tmp/flaky.out || true
grep -oE 'total_err=[0-9]+' /tmp/flaky.out || true`);
    const { ioErrors } = await counters(guest, 'xvdb');
    note(`${lines.join()} in the guest, ioErrors ${ioErrors}`);
    if (ioErrors === 0) throw new Error('no request failed');
    await mapped.become(mapped.linear());
    await guest.run(randomMix('xvdb'));
    await guest.run(stopLoad('xvda'));
    await busy.ended;
    const { ioErrors: neighbours } = await counters(guest, 'xvda');
    if (neighbours !== 0) throw new Error(`the other disk had ${neighbours} errors`);
  });
}

const HANG_MS = 30_000;

/** @param {Guest} guest */
async function hangingDevice(guest) {
  await withMapped(guest, 'hanging', async (mapped) => {
    const waiting = await guest.start(load('xvdb'));
    const going = await guest.start(load('xvda'));
    await sleep(2000);
    await run('dmsetup', ['suspend', '--noflush', '--nolockfs', mapped.name]);
    await sleep(1000);
    const [stuck, free] = [await counters(guest, 'xvdb'), await counters(guest, 'xvda')];
    await sleep(HANG_MS);
    const [still, on] = [await counters(guest, 'xvdb'), await counters(guest, 'xvda')];
    await run('dmsetup', ['resume', mapped.name]);
    const done = on.reads + on.writes - free.reads - free.writes;
    note(`in ${HANG_MS / 1000} s the other disk did ${done} I/Os; ${still.inFlight} waited`);
    if (still.reads + still.writes > stuck.reads + stuck.writes || done === 0) {
      throw new Error(JSON.stringify({ stuck, still, free, on }));
    }
    await guest.run(`sleep 2; ${stopLoad('xvda')}; ${stopLoad('xvdb')}`);
    await Promise.all([waiting.ended, going.ended]);
  });
}

const FULL = '/run/rig/full';

/** A sparse file on a file system that runs full, and has space again. @param {Guest} guest */
async function fullFileSystem(guest) {
  await mkdir(FULL, { recursive: true });
  await run('mount', ['-t', 'tmpfs', '-o', 'size=16m', 'full', FULL]);
  try {
    await writeFile(`${FULL}/ballast`, Buffer.alloc(8 * MIB));
    await run('truncate', ['-s', '64M', `${FULL}/disk.img`]);
    await guest.attach('xvdc', { spec: `${FULL}/disk.img`, measured: `${FULL}/disk.img` });
    const written = `for i in $(seq 0 11); do
  dd if=/dev/urandom of=/dev/xvdc bs=1M seek=$i count=1 oflag=direct 2>/dev/null || echo "$i"
done`;
    const failed = await guest.run(`wait_for_disk xvdc\n${written}`);
    note(`with 8 MiB of space these MiB failed: ${failed}`);
    if (failed.length < 4 || failed.includes('0')) throw new Error(`failed: ${failed}`);
    await guest.run('dd if=/dev/xvdc of=/dev/null bs=1M count=4 iflag=direct 2>/dev/null');
    await rm(`${FULL}/ballast`);
    const after = await guest.run(written);
    if (after.length > 0) throw new Error(`still failing with space: ${after}`);
    await guest.detach('xvdc');
    await guest.run('until [ ! -e /dev/xvdc ]; do sleep 0.2; done', { timeoutMs: 30_000 });
  } finally {
    await run('umount', ['--lazy', FULL]);
  }
}

/** @type {import('../dom0/catalogue.mjs').Scenario[]} */
export const scenarios = [
  {
    name: 'faults',
    draft: 'written, but not yet seen to pass on a quiet machine',
    prepare: async () => Guest.create('faults', { disks: { xvda: await blockTarget(0) } }),
    // Of the devices that are made to fail.
    tolerated: /I\/O error, dev xvd[bc]|error on dev(ice)? (xvd[bc]|dm-)/,
    tests: {
      'bad sectors': badSectors,
      'a device that fails every other second': flakyDevice,
      'a device that hangs': hangingDevice,
      'a full file system': fullFileSystem,
    },
  },
];
