// SPDX-License-Identifier: Apache-2.0
// A frontend that comes back while its domain stays: another kernel, which kexec starts after the
// first has let its disks go, or a crash kernel, before which nobody has.
import { copyFile, mkdir } from 'node:fs/promises';
import { Guest } from '../dom0/guest.mjs';
import { run } from '../dom0/shell.mjs';
import { blockTarget, fileTarget } from '../dom0/targets.mjs';
import { randomMix } from '../dom0/workloads.mjs';

const MIB = 1 << 20;
const NEXT_MS = 300_000;
const KERNEL_DIR = '/run/rig/next';

const SUM = 'dd if=/dev/xvda bs=1M count=4 iflag=direct 2>/dev/null | sha256sum';
const WRITE = `wait_for_disk xvda
dd if=/dev/urandom of=/dev/xvda bs=1M count=4 oflag=direct 2>/dev/null
${SUM}`;

/** A disk with the kernel and the initramfs that a guest starts by itself. */
async function nextKernel() {
  const target = await fileTarget('next', 64 * MIB);
  await mkdir(KERNEL_DIR, { recursive: true });
  const release = (await run('uname', ['-r'])).trim();
  await copyFile(`/boot/vmlinuz-${release}`, `${KERNEL_DIR}/vmlinuz`);
  await copyFile('/run/rig/guest.img', `${KERNEL_DIR}/guest.img`);
  await run('mke2fs', ['-q', '-t', 'ext4', '-F', '-d', KERNEL_DIR, target.measured]);
  return target;
}

/**
 * Another kernel in the same domain.
 * @param {string} name
 * @param {string} load how kexec gets it
 * @param {string} go what starts it
 * @param {string} more kernel arguments of the first kernel
 */
async function anotherKernel(name, load, go, more) {
  const disks = { xvda: await blockTarget(0), xvdb: await nextKernel() };
  const guest = await Guest.create(name, { type: 'pvh', memoryMib: 512, disks, arguments: more });
  const [written] = await guest.run(`${WRITE}
wait_for_disk xvdb
load_file_systems
mkdir -p /mnt/next; mount -t ext4 -o ro /dev/xvdb /mnt/next
${load} --initrd=/mnt/next/guest.img --reuse-cmdline /mnt/next/vmlinuz
umount /mnt/next`);
  await guest.startOver(go, NEXT_MS);
  const [read] = await guest.run(`wait_for_disk xvda; ${SUM}`);
  if (read !== written) throw new Error(`before ${written}, after ${read}`);
  await guest.run(randomMix('xvda', '64M'));
  await guest.destroy();
}

/** @type {import('../dom0/catalogue.mjs').Scenario[]} */
export const scenarios = [
  {
    name: 'reconnect',
    // What a crash is asked for says.
    tolerated: /sysrq: Trigger a crash|Kernel panic|Call Trace|BUG: kernel NULL pointer/,
    full: true,
    tests: {
      kexec: () => anotherKernel('kexec', 'kexec -l', 'kexec -e', ''),
      'a crash kernel': () =>
        anotherKernel('crash', 'kexec -p', 'echo c > /proc/sysrq-trigger', 'crashkernel=192M'),
    },
  },
];
