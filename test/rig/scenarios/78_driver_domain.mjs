// SPDX-License-Identifier: Apache-2.0
// ringdisk in a driver domain: an unprivileged PV guest that has a disk of its own and serves
// another guest from it, under the rights and quotas that xenstored gives to every guest.
import { setTimeout as sleep } from 'node:timers/promises';
import { BACKEND, DriverDomain } from '../dom0/driver_domain.mjs';
import { Guest } from '../dom0/guest.mjs';
import { assertQuiet, MARK } from '../dom0/guest_log.mjs';
import { blockTarget } from '../dom0/targets.mjs';
import { mixedLoad, randomMix, stopLoad, waitUntilGone } from '../dom0/workloads.mjs';

const KILLS = 3;
const SERVED_MS_MAX = 3000;
const LOAD_MS = 240_000;
/** More than xenstored lets a guest have transactions, 10; with 20, libxl's patience ends here. */
const MANY_DISKS = 12;

const DISK = { spec: '/dev/xvdb', measured: '/host/nvme0.img' };
const FILE = { spec: '/var/lib/rig/served.img', measured: '/dev/null' };
const NOTHING = { spec: 'null:64M', measured: '/dev/null' };

/** @param {import('../dom0/targets.mjs').Target} target as the driver domain sees it */
function served(target) {
  return { target, domain: BACKEND, script: '' };
}

async function prepare() {
  const driver = await DriverDomain.create({ xvdb: await blockTarget(0) });
  await driver.inside(`mkdir -p /var/lib/rig; truncate -s 256M ${FILE.spec}`);
  const guest = await Guest.create('served', {
    disks: { xvda: served(DISK), xvdb: served(FILE) },
    blkfront: { max_queues: 2 },
  });
  return { driver, guest };
}

/** @typedef {{ driver: DriverDomain, guest: Guest }} Shared */

/** @param {Shared} shared */
async function serves({ guest }) {
  await guest.run(randomMix('xvda'));
  await guest.run(randomMix('xvdb'));
}

/** @param {Shared} shared */
async function killedUnderLoad({ driver, guest }) {
  await guest.run(MARK);
  const busy = [];
  for (const vdev of ['xvda', 'xvdb']) {
    busy.push(await guest.start(mixedLoad(vdev), { timeoutMs: LOAD_MS }));
  }
  for (let kill = 0; kill < KILLS; kill++) {
    await sleep(Math.random() * SERVED_MS_MAX);
    await driver.kill();
    await driver.start();
  }
  await guest.run(`${stopLoad('xvda')}; ${stopLoad('xvdb')}`);
  await Promise.all(busy.map(({ ended }) => ended));
  await assertQuiet(guest);
}

/** @param {Shared} shared */
async function attachAndDetach({ driver, guest }) {
  for (const _round of [1, 2]) {
    await guest.attach('xvdc', served(NOTHING));
    await guest.run('wait_for_disk xvdc; dd if=/dev/xvdc of=/dev/null bs=64k count=16 2>/dev/null');
    await guest.detach('xvdc');
    await guest.run(waitUntilGone('xvdc'));
  }
  await driver.inside(`! ${driver.command} list | grep -q xvdc`);
}

/** @param {Shared} shared */
async function manyDisks({ driver }) {
  const vdevs = Array.from({ length: MANY_DISKS }, (_, i) => `xvd${String.fromCharCode(97 + i)}`);
  const disks = Object.fromEntries(vdevs.map((vdev) => [vdev, served(NOTHING)]));
  const many = await Guest.create('served-many', { disks, blkfront: { max_queues: 1 } });
  const read = `for disk in ${vdevs.join(' ')}; do
wait_for_disk $disk; dd if=/dev/$disk bs=4k count=1 iflag=direct of=/dev/null 2>/dev/null
done`;
  await many.run(read);
  await driver.kill();
  await driver.start();
  await many.run(read);
  const [refused] = await driver.inside('grep -c "xenstore failed" /run/daemon.log || true');
  await many.destroy();
  if (refused !== '0') throw new Error(`xenstored refused ${refused} times: see the console`);
}

/** @type {import('../dom0/catalogue.mjs').Scenario[]} */
export const scenarios = [
  {
    name: 'driver domain',
    daemon: 'none',
    full: true,
    prepare,
    tests: {
      'serves a guest': serves,
      'killed and started again under load': killedUnderLoad,
      'disks come and go': attachAndDetach,
      'many disks within the quotas': manyDisks,
    },
  },
];
