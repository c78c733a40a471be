// SPDX-License-Identifier: Apache-2.0
// Two VBDs of one VM on one target, as an HVM guest and its device model in a stubdomain have them.
// Debian builds no stubdomain: what libxl would write for one is written by hand.
import { readFile } from 'node:fs/promises';
import { LOG } from '../dom0/daemon.mjs';
import { Guest } from '../dom0/guest.mjs';
import { fileTarget } from '../dom0/targets.mjs';
import { load, randomMix, stopLoad } from '../dom0/workloads.mjs';
import { writeNode } from '../dom0/xenstore.mjs';

const MIB = 1 << 20;

async function prepare() {
  const target = await fileTarget('shared', 512 * MIB);
  const guest = await Guest.create('owner', { disks: { xvda: target } });
  const other = await Guest.create('stubdomain', {});
  return { target, guest, other };
}

/** @typedef {import('../dom0/targets.mjs').Target} Target */
/** @typedef {{ target: Target, guest: Guest, other: Guest }} Shared */

/** @param {Shared} shared */
async function anotherVmIsRefused({ target, guest, other }) {
  await guest.run('wait_for_disk xvda');
  const attached = await other.attach('xvda', target).then(
    () => true,
    () => false,
  );
  if (attached) throw new Error('two VMs were given one disk');
  const holder = `vbd3/${guest.vbd('xvda')}`;
  const log = (await readFile(LOG, 'utf8')).split('\n');
  const refusal = log.find(
    (line) => line.includes(`vbd3/${other.vbd('xvda')}`) && line.includes('"level":"error"'),
  );
  if (!refusal?.includes(holder)) throw new Error(`it does not name ${holder}: ${refusal}`);
  await other.detach('xvda');
}

/** @param {Shared} shared both are busy at once, and each reads what the other wrote */
async function oneVmShares({ target, guest, other }) {
  await writeNode(`/local/domain/${other.domid}/target`, String(guest.domid));
  await other.attach('xvda', target);
  const busy = await guest.start(load('xvda', '256M'));
  await other.run(randomMix('xvda'));
  await guest.run(stopLoad('xvda'));
  await busy.ended;
  await passesOn(guest, other, 300);
  await passesOn(other, guest, 310);
  await other.detach('xvda');
  await guest.run(randomMix('xvda'));
}

/** @param {Guest} from @param {Guest} to @param {number} mib where on the disk */
async function passesOn(from, to, mib) {
  const place = `bs=1M count=2`;
  const [written] = await from.run(`dd if=/dev/urandom of=/tmp/new ${place} 2>/dev/null
dd if=/tmp/new of=/dev/xvda ${place} seek=${mib} oflag=direct 2>/dev/null; sha256sum < /tmp/new`);
  const [read] = await to.run(
    `dd if=/dev/xvda ${place} skip=${mib} iflag=direct 2>/dev/null | sha256sum`,
  );
  if (read !== written) throw new Error(`${from.name} wrote ${written}, ${to.name} read ${read}`);
}

/** @type {import('../dom0/catalogue.mjs').Scenario[]} */
export const scenarios = [
  {
    name: 'one target, two VBDs',
    prepare,
    tests: {
      'of two VMs: the second is refused': anotherVmIsRefused,
      'of one VM: both are served': oneVmShares,
    },
  },
];
