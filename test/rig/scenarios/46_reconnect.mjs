// SPDX-License-Identifier: Apache-2.0
// A frontend that lets its disk go and comes back while its domain stays, by what Linux' xenbus does
// then. Another kernel that kexec starts does the same: 45_hvm.mjs.
import { Guest } from '../dom0/guest.mjs';
import { blockTarget } from '../dom0/targets.mjs';
import { load, randomMix, stopLoad } from '../dom0/workloads.mjs';

const SUM = 'dd if=/dev/xvda bs=1M count=4 iflag=direct 2>/dev/null | sha256sum';
const WRITE = `wait_for_disk xvda
dd if=/dev/urandom of=/dev/xvda bs=1M count=4 oflag=direct 2>/dev/null
${SUM}`;

/** @param {string} node @param {number} state shell text that waits for it */
function until(node, state) {
  return `tries=0
until [ "$(xenstore-read ${node})" = ${state} ]; do
  sleep 0.1; tries=$((tries + 1)); [ $tries -lt 300 ]
done`;
}

/** The driver is taken from one disk and given back, while the other is busy. */
async function driverComesBack() {
  const disks = { xvda: await blockTarget(0), xvdb: await blockTarget(1) };
  const guest = await Guest.create('rebound', { disks });
  const [written] = await guest.run(WRITE);
  const busy = await guest.start(load('xvdb', '64M'));
  for (const _round of [1, 2]) {
    await guest.run(`backend=$(xenstore-read device/vbd/51712/backend)
cd /sys/bus/xen/drivers/vbd
echo vbd-51712 > unbind
${until('$backend/state', 6)}
xenstore-write device/vbd/51712/state 1
${until('$backend/state', 2)}
echo vbd-51712 > bind
wait_for_disk xvda`);
    const [read] = await guest.run(SUM);
    if (read !== written) throw new Error(`before ${written}, after ${read}`);
  }
  await guest.run(randomMix('xvda', '64M'));
  await guest.run(stopLoad('xvdb'));
  await busy.ended;
  await guest.destroy();
}

/** @type {import('../dom0/catalogue.mjs').Scenario[]} */
export const scenarios = [
  { name: 'reconnect', tests: { 'the driver is taken away and given back': driverComesBack } },
];
