// SPDX-License-Identifier: Apache-2.0
// HVM guests: their firmware reads and writes the disk through the device model, before any PV
// driver runs. The hotplug script is installed where libxl looks for it by itself: with a script=
// in the disk's line there would be no emulated disk.
import { copyFile, mkdir, open, readFile, writeFile } from 'node:fs/promises';
import { Guest, kernelArguments } from '../dom0/guest.mjs';
import { BLOCK_SCRIPT } from '../dom0/daemon.mjs';
import { run, waitFor } from '../dom0/shell.mjs';
import { fileTarget } from '../dom0/targets.mjs';
import { randomMix } from '../dom0/workloads.mjs';

const MIB = 1 << 20;
const SECTOR = 512;
const BIOS_MS = 120_000;

async function installAsBlockTap() {
  await run('install', ['-m', '755', BLOCK_SCRIPT, '/etc/xen/scripts/block-tap']);
}

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
  return `/host/logs/guest-${name}.log`;
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
  const said = async () => /.*BOOT: .*/.exec(await readFile(log('bios'), 'utf8'))?.[0];
  const line = await waitFor('the boot sector', said, { timeoutMs: BIOS_MS, everyMs: 500 });
  if (!/read, written, read back/.test(line)) throw new Error(line);
  await run('xl', ['destroy', 'bios']);
  const written = Buffer.alloc(SECTOR);
  await file.read(written, 0, SECTOR, 2 * SECTOR);
  await file.close();
  if (!written.equals(original.map((byte) => ~byte))) throw new Error(`written: ${written}`);
}
