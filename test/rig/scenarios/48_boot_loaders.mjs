// SPDX-License-Identifier: Apache-2.0
// PV guests whose kernel is on their disk: GRUB reads it in the guest through a frontend of its own
// (pvgrub), or pygrub reads it in dom0 before there is a guest. And one whose disk is elsewhere,
// behind a slow server, and is filled while it boots from it.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { installAsBlockTap, ringdisk, ringdiskJson } from '../dom0/daemon.mjs';
import { Guest, kernelArguments } from '../dom0/guest.mjs';
import { run, waitFor } from '../dom0/shell.mjs';
import { fileTarget } from '../dom0/targets.mjs';
import { randomMix } from '../dom0/workloads.mjs';

const MIB = 1 << 20;
const TREE = '/run/rig/bootable';
const MAKE_MS = 180_000;
const BOOT_MS = 600_000;
const JOB_MS = 300_000;
const TEST_MS = BOOT_MS + 2 * JOB_MS;

const PVGRUB = ['kernel = "/usr/lib/grub-xen/grub-x86_64-xen.bin"'];
const GRUB_CFG = `set default=0
set timeout=0
menuentry "from its own disk" {
  linux /boot/vmlinux ${kernelArguments('hvc0')} rig.own=1
  initrd /boot/guest.img
}
`;

/** GRUB for Xen loads an ELF kernel, which Debian's bzImage is not: the unpacked one. */
async function bootableDisk() {
  await installAsBlockTap();
  const target = await fileTarget('bootable', 256 * MIB);
  await mkdir(`${TREE}/boot/grub`, { recursive: true });
  await writeFile(`${TREE}/boot/grub/grub.cfg`, GRUB_CFG);
  await copyFile('/rig/guest.vmlinux', `${TREE}/boot/vmlinux`);
  await copyFile('/run/rig/guest.img', `${TREE}/boot/guest.img`);
  const make = ['-q', '-t', 'ext4', '-F', '-d', TREE, target.measured, '200M'];
  await run('mke2fs', make, { timeoutMs: MAKE_MS });
  return target;
}

/**
 * @param {import('../dom0/targets.mjs').Target} target
 * @param {string} name
 * @param {string[]} boot
 * @param {(guest: Guest) => Promise<void>} [meanwhile] once it is up
 */
async function bootsBy(target, name, boot, meanwhile) {
  await Guest.startCreation(name, { boot, disks: { xvda: { target, script: '' } } });
  const guest = await Guest.created(name, { upMs: BOOT_MS });
  // What it boots is what the disk says, and the disk can be written and read on.
  const lives = `grep -q rig.own=1 /proc/cmdline
wait_for_disk xvda
load_file_systems
mkdir -p /mnt/own; mount -t ext4 /dev/xvda /mnt/own
dd if=/dev/urandom of=/mnt/own/new bs=64k count=16 2>/dev/null
sha256sum /mnt/own/new > /tmp/sum; umount /mnt/own; mount -t ext4 /dev/xvda /mnt/own
sha256sum -c /tmp/sum; umount /mnt/own`;
  await meanwhile?.(guest);
  await guest.run(lives, { timeoutMs: JOB_MS });
  await guest.run(randomMix('xvda', '220M'));
  await guest.destroy();
}

/** @typedef {import('../dom0/targets.mjs').Target} Target */

/** The server answers each read late, and ends when everything is here. @param {Target} image */
async function bootsWhileFilling(image) {
  const socket = '/run/rig/slow.sock';
  const delayed = ['--filter=delay', 'file', image.measured, 'rdelay=5ms'];
  const server = spawn('nbdkit', ['-f', '-r', '-U', socket, ...delayed], { stdio: 'inherit' });
  const ended = once(server, 'exit');
  await waitFor('the slow server', () => existsSync(socket), { timeoutMs: 10_000 });
  const local = await fileTarget('filled', 256 * MIB);
  const spec = `fill:rate=2M:${local.spec}::nbd:unix:${socket}`;
  const fillOf = async (/** @type {Guest} */ guest) =>
    (await ringdiskJson('show', guest.vbd('xvda'))).vbd.fill;
  await bootsBy({ ...local, spec }, 'filling', PVGRUB, async (guest) => {
    const { state, bytesHere } = await fillOf(guest);
    if (state !== 'filling') throw new Error(`it is ${state}, ${bytesHere} bytes are here`);
    await ringdisk('fill', 'rate', guest.vbd('xvda'), 'off');
    const isFull = async () => (await fillOf(guest)).state === 'full';
    await waitFor('all to be here', isFull, { timeoutMs: JOB_MS, everyMs: 1000 });
    server.kill('SIGKILL');
    await ended;
  });
}

/** @type {import('../dom0/catalogue.mjs').Scenario[]} */
export const scenarios = [
  {
    name: 'boot loaders',
    full: true,
    prepare: bootableDisk,
    tests: {
      pvgrub: {
        timeoutMs: TEST_MS,
        run: (/** @type {Target} */ target) => bootsBy(target, 'pvgrub', PVGRUB),
      },
      'pvgrub, from a slow server that fills it': {
        timeoutMs: TEST_MS + JOB_MS,
        run: bootsWhileFilling,
      },
      pygrub: {
        timeoutMs: TEST_MS,
        run: (/** @type {Target} */ target) => bootsBy(target, 'pygrub', ['bootloader = "pygrub"']),
      },
    },
  },
];
