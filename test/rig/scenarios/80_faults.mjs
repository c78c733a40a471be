// SPDX-License-Identifier: Apache-2.0
// Devices that fail, fill up, end early and hang. With on-error=report the guest is told of exactly
// the requests that failed; with on-error=stop it waits and sees no error. Other disks go on, and
// all is well again when the device is.
import { mkdir, rm, truncate, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { Daemon, ringdisk } from '../dom0/daemon.mjs';
import {
  assertFailed,
  assertRecovered,
  assertReported,
  blockByBlock,
  waitUntilFailing,
  withDisk,
  withMapped,
} from '../dom0/faults.mjs';
import { Guest } from '../dom0/guest.mjs';
import { assertQuiet } from '../dom0/guest_log.mjs';
import { note } from '../dom0/report.mjs';
import { run } from '../dom0/shell.mjs';
import {
  blockTarget,
  fileTarget,
  MAPPED_SECTORS,
  MappedDevice,
  nvmeTarget,
} from '../dom0/targets.mjs';
import { load, randomMix, stopLoad } from '../dom0/workloads.mjs';

const MIB = 1 << 20;
const BLOCK_SECTORS = 8;
const HANG_MS = 60_000;
const LOAD_MS = 300_000;

/** @typedef {{ faulty: Guest, neighbour: Guest }} Guests */

async function prepare() {
  const faulty = await Guest.create('faults', { disks: { xvda: await blockTarget(0) } });
  const disks = { xvda: await fileTarget('neighbour', 300 * MIB) };
  return { faulty, neighbour: await Guest.create('neighbour', { disks }) };
}

const BAD = { first: 8, count: 6 };

/** @param {MappedDevice} mapped @returns {string} its table with some blocks that can't be used */
function badTable(mapped) {
  const start = BAD.first * BLOCK_SECTORS;
  const length = BAD.count * BLOCK_SECTORS;
  const hole = `${start} ${length} error`;
  return [mapped.linear(0, start), hole, mapped.linear(start + length)].join('\n');
}

/** @param {Guests} guests */
async function badSectorsReported({ faulty }) {
  await withMapped(faulty, 'report', 'bad', async (mapped) => {
    await mapped.become(badTable(mapped));
    const failed = await faulty.run(blockByBlock(0, 20));
    const bad = Array.from({ length: BAD.count }, (_, i) => BAD.first + i);
    assertFailed(
      failed,
      bad.flatMap((block) => [`w${block}`, `r${block}`]),
    );
    await assertReported(faulty, failed.length);
    await mapped.become(mapped.linear());
    assertFailed(await faulty.run(blockByBlock(0, 20)), []);
    await faulty.run(randomMix('xvdb'));
  });
}

/** And the daemon dies over the requests that wait. @param {Guests} guests */
async function badSectorsWaitedFor({ faulty }) {
  await withMapped(faulty, 'stop', 'bad', async (mapped) => {
    await mapped.become(badTable(mapped));
    const writing = await faulty.start(blockByBlock(0, 20), { timeoutMs: LOAD_MS });
    await waitUntilFailing(faulty, 'EIO');
    if (!/\(failing\)/.test(await ringdisk('list'))) throw new Error('the list does not say so');
    await faulty.run('dd if=/dev/xvda of=/dev/null bs=64k count=16 iflag=direct 2>/dev/null');
    await Daemon.killAndStart();
    await waitUntilFailing(faulty, 'EIO');
    await mapped.become(mapped.linear());
    assertFailed(await writing.ended, []);
    await assertRecovered(faulty);
    await faulty.run(randomMix('xvdb'));
  });
}

/** @param {Guests} guests */
async function takenAway({ faulty }) {
  const mapped = await MappedDevice.create('gone');
  await faulty.attach('xvdb', { spec: `on-error=stop:${mapped.path}`, measured: '' });
  await faulty.run('wait_for_disk xvdb');
  await mapped.become(badTable(mapped));
  const write = `dd if=/dev/zero of=/dev/xvdb bs=4k seek=${BAD.first} count=1 oflag=direct`;
  const writing = await faulty.start(`${write} 2>/dev/null || echo failed`, { timeoutMs: LOAD_MS });
  await waitUntilFailing(faulty, 'EIO');
  await faulty.detach('xvdb');
  assertFailed(await writing.ended, ['failed']);
  await faulty.run('until [ ! -e /dev/xvdb ]; do sleep 0.2; done');
  await mapped.remove();
}

/** Works for a second, fails for a second. @param {MappedDevice} mapped */
function flakyTable(mapped) {
  return `0 ${MAPPED_SECTORS} flakey ${mapped.under} 0 1 1`;
}

/** @param {Guests} guests */
async function flakyReported({ faulty }) {
  await withMapped(faulty, 'report', 'flaky', async (mapped) => {
    const busy = await faulty.start(load('xvda'), { timeoutMs: LOAD_MS });
    await mapped.become(flakyTable(mapped));
    const [total] = await faulty.run(`fio --name=flaky --filename=/dev/xvdb --ioengine=libaio \\
  --direct=1 --rw=randrw --bs=4k --iodepth=8 --size=2M --time_based --runtime=6 \\
  --continue_on_error=io --output=/tmp/flaky.out || true
sed -n 's/.*errors *: total=\\([0-9]*\\).*/\\1/p' /tmp/flaky.out`);
    const { ioErrors } = (await faulty.stats('xvdb')).counters;
    note(`${total} I/Os failed in the guest, ioErrors ${ioErrors}`);
    // The guest's block layer may merge two of them into one request.
    if (ioErrors === 0 || ioErrors > Number(total) || ioErrors < Number(total) / 2) {
      throw new Error('that does not fit');
    }
    await mapped.become(mapped.linear());
    await faulty.run(randomMix('xvdb'));
    await faulty.run(stopLoad('xvda'));
    await busy.ended;
    const { counters } = await faulty.stats('xvda');
    if (counters.ioErrors !== 0) throw new Error(`the other disk: ${counters.ioErrors} errors`);
  });
}

/** @param {Guests} guests */
async function flakyWaitedFor({ faulty }) {
  await withMapped(faulty, 'stop', 'flaky', async (mapped) => {
    await mapped.become(flakyTable(mapped));
    // Of 64 MiB.
    const busy = await faulty.start(load('xvdb', '32M'), { timeoutMs: LOAD_MS });
    await waitUntilFailing(faulty, 'EIO');
    await sleep(5000);
    await mapped.become(mapped.linear());
    await faulty.run(stopLoad('xvdb'));
    await busy.ended;
    await assertRecovered(faulty);
  });
}

/** @param {Guests} guests */
async function hangingDevice({ faulty, neighbour }) {
  await withMapped(faulty, 'report', 'hanging', async (mapped) => {
    const busy = [
      await faulty.start(load('xvdb', '32M'), { timeoutMs: LOAD_MS }),
      await faulty.start(load('xvda'), { timeoutMs: LOAD_MS }),
      await neighbour.start(load('xvda'), { timeoutMs: LOAD_MS }),
    ];
    const look = async () => {
      const all = [await faulty.stats('xvdb'), await faulty.stats('xvda')];
      all.push(await neighbour.stats('xvda'));
      return all.map(({ counters }) => counters.reads + counters.writes);
    };
    await sleep(2000);
    await run('dmsetup', ['suspend', '--noflush', '--nolockfs', mapped.name]);
    await sleep(1000);
    const before = await look();
    await sleep(HANG_MS);
    const after = await look();
    await run('dmsetup', ['resume', mapped.name]);
    const [hanging, other, others] = after.map((count, i) => count - (before[i] ?? 0));
    note(`in ${HANG_MS / 1000} s: ${hanging}, the other disk ${other}, the neighbour's ${others}`);
    if (hanging !== 0 || !other || !others) throw new Error('not as it should be');
    await faulty.run(`sleep 2; ${stopLoad('xvdb')}; ${stopLoad('xvda')}`);
    await neighbour.run(stopLoad('xvda'));
    await Promise.all(busy.map(({ ended }) => ended));
    await assertQuiet(faulty);
  });
}

const FULL = '/run/rig/full';

/**
 * A sparse disk on a file system that has space for 8 of its MiB.
 * @param {(path: string) => Promise<unknown>} body
 */
async function withFullFileSystem(body) {
  await mkdir(FULL, { recursive: true });
  await run('mount', ['-t', 'tmpfs', '-o', 'size=16m', 'full', FULL]);
  try {
    await writeFile(`${FULL}/ballast`, Buffer.alloc(8 * MIB));
    await run('truncate', ['-s', '64M', `${FULL}/disk.img`]);
    await body(`${FULL}/disk.img`);
  } finally {
    await run('umount', ['--lazy', FULL]);
  }
}

/** @param {Guests} guests */
async function fullReported({ faulty }) {
  await withFullFileSystem((path) =>
    withDisk(faulty, 'report', path, async () => {
      const failed = await faulty.run(blockByBlock(0, 11, '1M'));
      note(`with 8 MiB of space these MiB failed: ${failed}`);
      // Its last MiB of space may be the file system's own.
      if (failed.length < 4 || failed.some((name) => !/^w([789]|1.)$/.test(name))) {
        throw new Error(`failed: ${failed}`);
      }
      await rm(`${FULL}/ballast`);
      assertFailed(await faulty.run(blockByBlock(0, 11, '1M')), []);
    }),
  );
}

/** @param {Guests} guests */
async function fullWaitedFor({ faulty }) {
  await withFullFileSystem((path) =>
    withDisk(faulty, 'stop', path, async () => {
      const writing = await faulty.start(blockByBlock(0, 11, '1M'), { timeoutMs: LOAD_MS });
      await waitUntilFailing(faulty, 'ENOSPC');
      await rm(`${FULL}/ballast`);
      assertFailed(await writing.ended, []);
      await assertRecovered(faulty);
    }),
  );
}

const CUT = { whole: 16 * MIB, rest: 4 * MIB };
const READ_ALL = `for i in $(seq 0 15); do
  dd if=/dev/xvdb of=/dev/null bs=1M skip=$i count=1 iflag=direct 2>/dev/null || echo "r$i"
done`;

/** @param {Guests} guests */
async function cutShortReported({ faulty }) {
  const { spec } = await fileTarget('cut', CUT.whole);
  await withDisk(faulty, 'report', spec, async () => {
    await truncate(spec, CUT.rest);
    const expected = Array.from({ length: 12 }, (_, i) => `r${i + 4}`);
    assertFailed(await faulty.run(READ_ALL), expected);
    await truncate(spec, CUT.whole);
    assertFailed(await faulty.run(READ_ALL), []);
  });
}

/** @param {Guests} guests */
async function cutShortWaitedFor({ faulty }) {
  const { spec } = await fileTarget('cut', CUT.whole);
  await withDisk(faulty, 'stop', spec, async () => {
    // A part of a request can be read, too.
    await truncate(spec, CUT.rest + 100 * 1024);
    const reading = await faulty.start(READ_ALL, { timeoutMs: LOAD_MS });
    await waitUntilFailing(faulty, 'EIO');
    await truncate(spec, CUT.whole);
    assertFailed(await reading.ended, []);
    await assertRecovered(faulty);
  });
}

/** Where they are is in image/boot.sh. @param {Guests} guests */
async function nvmeReported({ faulty }) {
  const { spec } = await nvmeTarget(3);
  await withDisk(faulty, 'report', spec, async () => {
    const failed = await faulty.run(blockByBlock(4998, 5002));
    assertFailed(failed, ['r5000']);
    await assertReported(faulty, 1);
  });
}

/** @param {Guests} guests */
async function nvmeWaitedFor({ faulty }) {
  const { spec } = await nvmeTarget(3);
  await withDisk(faulty, 'stop', spec, async () => {
    assertFailed(await faulty.run(blockByBlock(6249, 6254)), []);
    await assertRecovered(faulty);
    const { retries } = (await faulty.stats('xvdb')).counters;
    if (retries !== 4) throw new Error(`${retries} retries of 4 writes that fail once`);
  });
}

/** @type {import('../dom0/catalogue.mjs').Scenario[]} */
export const scenarios = [
  {
    name: 'faults',
    prepare,
    // Of the devices that are made to fail.
    tolerated: /I\/O error, dev (xvdb|loop|nvme)|error on dev(ice)? (xvdb|dm-)/,
    tests: {
      'bad sectors, reported': badSectorsReported,
      'bad sectors, waited for': badSectorsWaitedFor,
      'a disk that waits is taken away': takenAway,
      'a device that fails every other second, reported': { full: true, run: flakyReported },
      'a device that fails every other second, waited for': { full: true, run: flakyWaitedFor },
      'a device that hangs': { full: true, run: hangingDevice },
      'a full file system, reported': { full: true, run: fullReported },
      'a full file system, waited for': fullWaitedFor,
      'a file cut short, reported': { full: true, run: cutShortReported },
      'a file cut short, waited for': cutShortWaitedFor,
      'errors of an NVMe namespace, reported': nvmeReported,
      'errors of an NVMe namespace, waited for': nvmeWaitedFor,
    },
  },
];
