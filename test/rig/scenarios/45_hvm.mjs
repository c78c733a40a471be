// SPDX-License-Identifier: Apache-2.0
// HVM guests: their firmware reads and writes the disk through the device model, before any PV
// driver runs. The hotplug script is installed where libxl looks for it by itself: with a script=
// in the disk's line there would be no emulated disk.
import { copyFile, mkdir, open, readFile, writeFile } from 'node:fs/promises';
import { installAsBlockTap } from '../dom0/daemon.mjs';
import { Guest, kernelArguments } from '../dom0/guest.mjs';
import { run, waitFor } from '../dom0/shell.mjs';
import { fileTarget } from '../dom0/targets.mjs';
import { randomMix } from '../dom0/workloads.mjs';

const MIB = 1 << 20;
const SECTOR = 512;
const BIOS_MS = 120_000;

/** @param {string} name @param {string} [disks] an AHCI controller's are faster for a BIOS */
function bios(name, disks = 'ide') {
  return [
    `serial = "file:${log(name)}"`,
    'boot = "c"',
    'vga = "none"',
    'vnc = 0',
    `hdtype = "${disks}"`,
  ];
}

/** @param {string} name */
function log(name) {
  return `/host/logs/guest-${name}-serial.log`;
}

async function bootSector() {
  const target = await fileTarget('bios', 64 * MIB);
  const original = Buffer.alloc(SECTOR, 'one sector of the disk, as dom0 wrote it; ');
  const file = await open(target.measured, 'r+');
  await file.write(await readFile('/host/boot_sector'), 0, SECTOR, 0);
  await file.write(original, 0, SECTOR, SECTOR);
  await Guest.startCreation('bios', {
    type: 'hvm',
    memoryMib: 64,
    vcpus: 1,
    boot: bios('bios'),
    disks: { hda: { target, script: '' } },
  });
  const said = async () => /BOOT: .*(?=\r)/.exec(await readFile(log('bios'), 'utf8'))?.[0];
  const line = await waitFor('the boot sector', said, { timeoutMs: BIOS_MS, everyMs: 500 });
  if (!/read, written, read back/.test(line)) throw new Error(line);
  await run('xl', ['destroy', 'bios']);
  const written = Buffer.alloc(SECTOR);
  await file.read(written, 0, SECTOR, 2 * SECTOR);
  await file.close();
  if (!written.equals(original.map((byte) => ~byte))) throw new Error(`written: ${written}`);
}

const KERNEL_MS = 900_000;
const BOOT_DIR = '/run/rig/boot';
/** One Linux partition, active: 200 MiB from the first on. */
const PARTITION = Buffer.from('80000100 83ffffff 00080000 00400600'.replaceAll(' ', ''), 'hex');

/** A disk that GRUB boots a Linux from, as it lies on a machine of one's own. */
async function linuxDisk() {
  const target = await fileTarget('grub', 256 * MIB);
  await mkdir(BOOT_DIR, { recursive: true });
  const release = (await run('uname', ['-r'])).trim();
  await copyFile(`/boot/vmlinuz-${release}`, `${BOOT_DIR}/vmlinuz`);
  await copyFile('/run/rig/guest.img', `${BOOT_DIR}/guest.img`);
  const grub = [
    'set root=(hd0,msdos1)',
    `linux /vmlinuz ${kernelArguments('hvc0')}`,
    'initrd /guest.img',
    'boot',
  ];
  await writeFile('/run/rig/grub.cfg', `${grub.join('\n')}\n`);
  const modules = ['biosdisk', 'part_msdos', 'ext2', 'linux'];
  const core = ['-O', 'i386-pc', '-o', '/run/rig/core.img', '-c', '/run/rig/grub.cfg'];
  await run('grub-mkimage', [...core, '-p', '/boot', ...modules]);
  const inPartition = ['-q', '-t', 'ext4', '-F', '-E', `offset=${MIB}`, '-d', BOOT_DIR];
  await run('mke2fs', [...inPartition, target.measured, '200M']);
  const file = await open(target.measured, 'r+');
  await file.write(await readFile('/usr/lib/grub/i386-pc/boot.img'), 0, 440, 0);
  await file.write(PARTITION, 0, PARTITION.length, 446);
  await file.write(Buffer.from([0x55, 0xaa]), 0, 2, 510);
  await file.write(await readFile('/run/rig/core.img'), 0, undefined, SECTOR);
  await file.close();
  return target;
}

async function bootByGrub() {
  await installAsBlockTap();
  const target = await linuxDisk();
  await Guest.startCreation('grub', {
    type: 'hvm',
    vcpus: 1,
    memoryMib: 512,
    boot: bios('grub', 'ahci'),
    disks: { xvda: { target, script: '' } },
  });
  return Guest.created('grub', { upMs: KERNEL_MS });
}

/** @param {Guest} guest */
async function goesOn(guest) {
  await guest.run(`wait_for_disk xvda1
load_file_systems
mkdir -p /mnt/boot; mount -t ext4 /dev/xvda1 /mnt/boot
dd if=/dev/urandom of=/mnt/boot/new bs=64k count=16 2>/dev/null
sha256sum /mnt/boot/vmlinuz /mnt/boot/guest.img /mnt/boot/new > /mnt/boot/sums; ${SUMS_AGAIN}`);
  await guest.run(randomMix('xvda', '220M'));
}

const SUMS_AGAIN = `umount /mnt/boot; mount -t ext4 /dev/xvda1 /mnt/boot
sha256sum -c /mnt/boot/sums; umount /mnt/boot`;

/** Another kernel in the same domain, which finds its disk as the one before has left it. */
async function kexec(/** @type {Guest} */ guest) {
  await guest.run(`mount -t ext4 /dev/xvda1 /mnt/boot
kexec -l --initrd=/mnt/boot/guest.img --reuse-cmdline /mnt/boot/vmlinuz; umount /mnt/boot`);
  await guest.startOver('kexec -e', KERNEL_MS);
  await guest.run(`wait_for_disk xvda1; load_file_systems; mkdir -p /mnt/boot
mount -t ext4 /dev/xvda1 /mnt/boot; ${SUMS_AGAIN}`);
  await guest.run(randomMix('xvda', '220M'));
}

/** @type {import('../dom0/catalogue.mjs').Scenario[]} */
export const scenarios = [
  {
    name: 'HVM',
    prepare: installAsBlockTap,
    tests: { 'a boot sector reads and writes by the BIOS': bootSector },
  },
  {
    // Minutes: what GRUB reads costs the BIOS 100 KiB/s here.
    name: 'HVM, Linux booted by GRUB',
    full: true,
    prepare: bootByGrub,
    tests: {
      'goes on with its PV disk': goesOn,
      'another kernel by kexec': { timeoutMs: KERNEL_MS + 240_000, run: kexec },
    },
  },
];
