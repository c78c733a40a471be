// SPDX-License-Identifier: Apache-2.0
// A frontend that lets its disk go and comes back while its domain stays: another driver, another
// kernel, or a crash kernel that knows nothing of the rings of the one before.
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

/** The driver is taken from the disk and given back, which for a backend is what kexec does. */
async function driverComesBack() {
  const guest = await Guest.create('rebound', { disks: { xvda: await blockTarget(0) } });
  const [written] = await guest.run(WRITE);
  for (const _round of [1, 2]) {
    await guest.run(`cd /sys/bus/xen/drivers/vbd
echo vbd-51712 > unbind
backend=$(xenstore-read device/vbd/51712/backend)
tries=0
until [ "$(xenstore-read $backend/state)" = 6 ]; do
  sleep 0.1; tries=$((tries + 1)); [ $tries -lt 100 ]
done
xenstore-write device/vbd/51712/state 1
until [ "$(xenstore-read $backend/state)" = 2 ]; do
  sleep 0.1; tries=$((tries + 1)); [ $tries -lt 200 ]
done
echo vbd-51712 > bind
wait_for_disk xvda`);
    const [read] = await guest.run(SUM);
    if (read !== written) throw new Error(`before ${written}, after ${read}`);
  }
  await guest.run(randomMix('xvda', '64M'));
  await guest.destroy();
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
    tests: {
      'the driver is taken away and given back': driverComesBack,
      kexec: {
        full: true,
        run: () => anotherKernel('kexec', 'kexec -l', 'kexec -e', ''),
      },
      'a crash kernel': {
        full: true,
        run: () =>
          anotherKernel('crash', 'kexec -p', 'echo c > /proc/sysrq-trigger', 'crashkernel=192M'),
      },
    },
  },
];
