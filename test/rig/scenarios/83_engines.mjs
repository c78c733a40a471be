// SPDX-License-Identifier: Apache-2.0
// Disks whose bytes are on other hosts: the way there goes, under load, and comes back.
import { cut, Drbd, Iscsi, NvmeOverTcp } from '../dom0/engines.mjs';
import { assertRecovered, withDisk } from '../dom0/faults.mjs';
import { Guest } from '../dom0/guest.mjs';
import { assertQuiet, MARK } from '../dom0/guest_log.mjs';
import { note } from '../dom0/report.mjs';
import { blockTarget } from '../dom0/targets.mjs';
import { load, randomMix, stopLoad, waitUntilGone } from '../dom0/workloads.mjs';

const CUT_MS = 12_000;
const LOAD_MS = 300_000;

const prepare = async () => Guest.create('engines', { disks: { xvda: await blockTarget(0) } });

/** @param {Guest} guest @param {string} vdev */
async function requestsOf(guest, vdev) {
  const { counters } = await guest.stats(vdev);
  return counters.reads + counters.writes;
}

/**
 * Verified load on xvdb while the way to it is cut, and on a disk that is here.
 * @param {Guest} guest
 * @param {() => Promise<unknown>} [meanwhile] at the end of the cut
 */
async function loadOverCut(guest, meanwhile) {
  const busy = [
    await guest.start(load('xvdb', '32M'), { timeoutMs: LOAD_MS }),
    await guest.start(load('xvda'), { timeoutMs: LOAD_MS }),
  ];
  await cut(CUT_MS, async () => {
    const before = await requestsOf(guest, 'xvda');
    await meanwhile?.();
    await new Promise((resolve) => setTimeout(resolve, 2000));
    const served = (await requestsOf(guest, 'xvda')) - before;
    note(`${served} requests of the other disk while the way is cut`);
    if (served === 0) throw new Error('the other disk stands still, too');
  });
  await guest.run(`sleep 5; ${stopLoad('xvdb')}; ${stopLoad('xvda')}`);
  await Promise.all(busy.map(({ ended }) => ended));
}

/** The kernel's initiator waits for its path, so even where errors are told there is none. */
async function nvmeBlock(/** @type {Guest} */ guest) {
  const tcp = await NvmeOverTcp.create();
  try {
    await withDisk(guest, 'report', tcp.block, async () => {
      await guest.run(randomMix('xvdb'));
      await loadOverCut(guest);
      await assertQuiet(guest);
    });
  } finally {
    await tcp.remove();
  }
}

/** Passthrough fails at once without a path. */
async function nvmePassthrough(/** @type {Guest} */ guest) {
  const tcp = await NvmeOverTcp.create();
  try {
    await withDisk(guest, 'stop', `nvme:${tcp.generic}`, async () => {
      await guest.run(randomMix('xvdb'));
      await loadOverCut(guest, async () =>
        note(JSON.stringify((await guest.stats('xvdb')).failing)),
      );
      await assertRecovered(guest);
    });
  } finally {
    await tcp.remove();
  }
}

async function iscsi(/** @type {Guest} */ guest) {
  const target = await Iscsi.create();
  try {
    const { script, spec } = target;
    await guest.attach('xvdb', { script, target: { spec, measured: '' } });
    await guest.run(`wait_for_disk xvdb; ${MARK}`);
    await guest.run(randomMix('xvdb'));
    await loadOverCut(guest);
    await assertQuiet(guest);
  } finally {
    await guest.detach('xvdb').catch(() => {});
    await guest.run(waitUntilGone('xvdb'));
    await target.remove();
  }
}

/** Its peer goes and comes back; then the guest's disk is the other end's. */
async function drbd(/** @type {Guest} */ guest) {
  const resource = await Drbd.create();
  try {
    await resource.adm('a', 'primary');
    let written = '';
    await withDisk(guest, 'report', '/dev/drbd0', async () => {
      await loadOverCut(guest, async () => {
        note(`cut: ${await resource.until('the loss of the peer', /^(?!Connected)/)}`);
      });
      note(`back: ${await resource.until('the resync', /^Connected UpToDate\/UpToDate/)}`);
      await assertQuiet(guest);
      [written = ''] = await guest.run(`dd if=/dev/urandom of=/dev/xvdb bs=1M count=16 \\
  oflag=direct conv=fsync 2>/dev/null
sha256sum /dev/xvdb | cut -d ' ' -f 1`);
    });
    await resource.adm('a', 'secondary');
    await resource.adm('b', 'primary');
    await withDisk(guest, 'report', '/dev/drbd1', async () => {
      const [read] = await guest.run("sha256sum /dev/xvdb | cut -d ' ' -f 1");
      if (read !== written) throw new Error(`one end has ${written}, the other ${read}`);
    });
    await resource.adm('b', 'secondary');
  } finally {
    await resource.remove();
  }
}

/** @type {import('../dom0/catalogue.mjs').Scenario[]} */
export const scenarios = [
  {
    name: 'engines',
    prepare,
    full: true,
    // Of the ways that are cut.
    tolerated:
      /nvme|nvmet|iscsi|session\d|connection\d|drbd|block drbd|TARGET_CORE|I\/O error, dev/,
    tests: {
      'NVMe over TCP, a block device': nvmeBlock,
      'NVMe over TCP, passthrough': nvmePassthrough,
      'iSCSI, by its hotplug script': iscsi,
      'DRBD, its peer goes and comes back': drbd,
    },
  },
];
