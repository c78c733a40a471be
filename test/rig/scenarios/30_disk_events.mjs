// SPDX-License-Identifier: Apache-2.0
// What happens to a disk while its guest runs: attach, detach, read-only, growth, reboot.
import { execFileSync } from 'node:child_process';
import { truncate } from 'node:fs/promises';
import { ringdisk } from '../dom0/daemon.mjs';
import { Guest } from '../dom0/guest.mjs';
import { run } from '../dom0/shell.mjs';
import { blockTarget, fileTarget, nvmeTarget } from '../dom0/targets.mjs';
import { load, randomMix, stopLoad, waitUntilGone } from '../dom0/workloads.mjs';

const MIB = 1 << 20;

/** Each test has a vdev of its own, so that none depends on how another ended. */
async function prepare() {
  return Guest.create('events', { disks: { xvda: await blockTarget(0) } });
}

/** @param {Guest} guest @param {string} vdev */
async function detachAndWait(guest, vdev) {
  await guest.detach(vdev);
  await guest.run(waitUntilGone(vdev));
}

/** @param {Guest} guest */
async function attachWhileBusy(guest) {
  const busy = await guest.start(load('xvda'));
  for (const target of [await nvmeTarget(1), await fileTarget('attached', 256 * MIB)]) {
    for (const _round of [1, 2]) {
      await guest.attach('xvdb', target);
      await guest.run(randomMix('xvdb'));
      await detachAndWait(guest, 'xvdb');
    }
  }
  await guest.run(stopLoad('xvda'));
  await busy.ended;
}

/** @param {Guest} guest */
async function readOnly(guest) {
  const target = await fileTarget('read-only', 64 * MIB);
  await run('dd', ['if=/dev/urandom', `of=${target.measured}`, 'bs=1M', 'count=4', 'conv=notrunc']);
  const before = await sha256(target.measured);
  await guest.attach('xvdc', { target, readOnly: true });
  const [seen] = await guest.run(`wait_for_disk xvdc
[ "$(blockdev --getro /dev/xvdc)" = 1 ]
if dd if=/dev/zero of=/dev/xvdc bs=4k count=1 conv=notrunc 2>/dev/null; then exit 1; fi
sha256sum < /dev/xvdc`);
  await detachAndWait(guest, 'xvdc');
  if (seen?.split(' ')[0] !== before) throw new Error(`the guest read other data: ${seen}`);
  if ((await sha256(target.measured)) !== before) throw new Error('the target was changed');
}

/** @param {string} path */
async function sha256(path) {
  return (await run('sha256sum', [path])).split(' ')[0];
}

/**
 * Attaches the target, grows it, and expects the guest to see and use the new space.
 * @param {Guest} guest
 * @param {string} vdev
 * @param {import('../dom0/targets.mjs').Target} target of 128 MiB
 * @param {(bytes: number) => Promise<unknown>} resizeTarget
 */
async function grow(guest, vdev, target, resizeTarget) {
  await guest.attach(vdev, target);
  await guest.run(`wait_for_disk ${vdev}
[ "$(blockdev --getsize64 /dev/${vdev})" = ${128 * MIB} ]`);
  await resizeTarget(192 * MIB);
  await ringdisk('resize', guest.vbd(vdev));
  await guest.run(`tries=0
until [ "$(blockdev --getsize64 /dev/${vdev})" = ${192 * MIB} ]; do
  tries=$((tries + 1)); [ $tries -lt 100 ] || { blockdev --getsize64 /dev/${vdev}; exit 1; }
  sleep 0.1
done
dd if=/dev/urandom of=/tmp/new bs=1M count=2 2>/dev/null
dd if=/tmp/new of=/dev/${vdev} bs=1M seek=190 oflag=direct 2>/dev/null
dd if=/dev/${vdev} bs=1M skip=190 iflag=direct 2>/dev/null | cmp - /tmp/new`);
}

/** @param {Guest} guest */
async function growFile(guest) {
  const target = await fileTarget('grown', 128 * MIB);
  await grow(guest, 'xvdd', target, (bytes) => truncate(target.measured, bytes));
  await truncate(target.measured, 64 * MIB);
  const shrunk = await ringdisk('resize', guest.vbd('xvdd')).then(
    () => true,
    () => false,
  );
  if (shrunk) throw new Error('a shrink was not refused');
  await truncate(target.measured, 192 * MIB);
  await detachAndWait(guest, 'xvdd');
}

/** @param {Guest} guest */
async function growBlock(guest) {
  const { measured } = await fileTarget('grown-loop', 128 * MIB);
  const loop = (await run('losetup', ['--find', '--show', '--direct-io=on', measured])).trim();
  try {
    await grow(guest, 'xvde', { spec: loop, measured }, async (bytes) => {
      await truncate(measured, bytes);
      await run('losetup', ['--set-capacity', loop]);
    });
    await detachAndWait(guest, 'xvde');
  } finally {
    execFileSync('losetup', ['--detach', loop]);
  }
}

/** @param {Guest} guest */
async function reboot(guest) {
  const [written] = await guest.run(`wait_for_disk xvda
dd if=/dev/urandom of=/dev/xvda bs=1M count=4 oflag=direct 2>/dev/null
dd if=/dev/xvda bs=1M count=4 iflag=direct 2>/dev/null | sha256sum`);
  await guest.reboot();
  const [read] = await guest.run(`wait_for_disk xvda
dd if=/dev/xvda bs=1M count=4 iflag=direct 2>/dev/null | sha256sum > /tmp/sum
cat /tmp/sum
${randomMix('xvda')}`);
  if (read !== written) throw new Error(`before the reboot ${written}, after it ${read}`);
}

/** @type {import('../dom0/catalogue.mjs').Scenario[]} */
export const scenarios = [
  {
    name: 'disk events',
    prepare,
    tests: {
      'attach and detach while another disk is busy': { full: true, run: attachWhileBusy },
      'a read-only disk refuses writes': readOnly,
      'a file grows under the guest': growFile,
      'a block device grows under the guest': growBlock,
      'a reboot finds the disk again': reboot,
    },
  },
];
