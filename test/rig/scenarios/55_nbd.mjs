// SPDX-License-Identifier: Apache-2.0
// Exports in dom0: a backup while the guest runs, and the kernel's own NBD client.
import { stat } from 'node:fs/promises';
import { ringdisk, ringdiskJson } from '../dom0/daemon.mjs';
import { Guest } from '../dom0/guest.mjs';
import { note } from '../dom0/report.mjs';
import { bash, waitFor } from '../dom0/shell.mjs';
import { FILES_DIR, fileTarget } from '../dom0/targets.mjs';
import { load, stopLoad, waitUntilGone } from '../dom0/workloads.mjs';

const MIB = 1 << 20;
const CLIENT_MS = 180_000;

/** @param {string} script */
function shell(script) {
  return bash(script, { timeoutMs: CLIENT_MS });
}

/** @param {...string} args @returns {Promise<string>} the export's URI */
async function exported(...args) {
  return (await ringdisk('export', 'add', ...args)).trim();
}

async function prepare() {
  const disks = {
    xvda: await fileTarget('exported', 64 * MIB),
    xvdb: await fileTarget('busy', 300 * MIB),
  };
  return Guest.create('exported', { disks, memoryMib: 400 });
}

/** @param {Guest} guest */
async function backup(guest) {
  const busy = await guest.start(load('xvdb'), { timeoutMs: 300_000 });
  const [written] = await guest.run(`wait_for_disk xvda
dd if=/dev/urandom of=/dev/xvda bs=1M count=24 oflag=direct conv=fsync 2>/dev/null
sha256sum /dev/xvda | cut -d ' ' -f 1`);
  const uri = await exported(guest.vbd('xvda'), '--read-only', '--name', 'backup');
  const copy = `${FILES_DIR}/backup.img`;
  await shell(`nbdcopy '${uri}' ${copy}`);
  const read = (await shell(`sha256sum ${copy}`)).split(' ')[0];
  if (read !== written) throw new Error(`the guest wrote ${written}, nbdcopy read ${read}`);
  // What the guest has never written is no data, and takes no space.
  const bytes = (await stat(copy)).blocks * 512;
  note(`24 of 64 MiB were written, the copy takes ${(bytes / MIB).toFixed(1)} MiB`);
  if (bytes > 32 * MIB) throw new Error(`the copy takes ${bytes} bytes`);
  await ringdisk('export', 'remove', 'backup');
  await guest.run(stopLoad('xvdb'));
  await busy.ended;
}

/** By nbd-client and qemu-nbd, as XAPI and people do it. */
async function kernelClients() {
  const { spec } = await fileTarget('kernel-client', 128 * MIB);
  await exported(spec, '--name', 'plain');
  try {
    await writeByKernel('/run/ringdisk/nbd/plain.sock');
    const noClients = async () => (await ringdiskJson('export', 'list')).exports[0].clients === 0;
    await waitFor('its clients to go', noClients, { timeoutMs: 30_000 });
  } finally {
    await ringdisk('export', 'remove', 'plain');
  }
}

/** @param {string} socket */
async function writeByKernel(socket) {
  // By ioctl: to netlink a device that somebody looks at, as udev does at a new one, is in use.
  await shell(`modprobe nbd max_part=8
nbd-client -nonetlink -unix ${socket} /dev/nbd0 -name plain
mke2fs -q -t ext4 -F /dev/nbd0
mkdir -p /mnt/nbd; mount -o discard /dev/nbd0 /mnt/nbd
dd if=/dev/urandom of=/mnt/nbd/file bs=1M count=40 conv=fsync 2>/dev/null
sha256sum /mnt/nbd/file > /run/rig/nbd.sum
umount /mnt/nbd
nbd-client -d /dev/nbd0`);
  await shell(`qemu-nbd -r -f raw --connect=/dev/nbd1 'nbd:unix:${socket}:exportname=plain'
until [ -b /dev/nbd1 ] && [ "$(blockdev --getsize64 /dev/nbd1)" -gt 0 ]; do sleep 0.2; done
mount -o ro,noload /dev/nbd1 /mnt/nbd
sha256sum -c /run/rig/nbd.sum
umount /mnt/nbd
qemu-nbd -d /dev/nbd1`);
}

/** @param {Guest} guest */
async function detached(guest) {
  await exported(guest.vbd('xvda'), '--read-only', '--name', 'goes');
  await guest.detach('xvda');
  await guest.run(waitUntilGone('xvda'));
  const isGone = async () => (await ringdiskJson('export', 'list')).exports.length === 0;
  await waitFor('the export to go', isGone, { timeoutMs: 30_000 });
}

/** @type {import('../dom0/catalogue.mjs').Scenario[]} */
export const scenarios = [
  {
    name: 'exports',
    prepare,
    tests: {
      'a backup while the guest runs': backup,
      'nbd-client and qemu-nbd': { full: true, run: kernelClients },
      'goes with its disk': { full: true, run: detached },
    },
  },
];
