// SPDX-License-Identifier: Apache-2.0
// What guests' disks are made of in the rig: dom0's NVMe disks, found by serial number since their
// numbering is not stable, sparse files on dom0's ext4 (which has O_DIRECT and punches holes), and
// device-mapper devices.
import { mkdir, open, readdir, readFile, rm, stat, truncate } from 'node:fs/promises';
import { run } from './shell.mjs';

export const FILES_DIR = '/var/lib/rig';

/**
 * @typedef {object} Target
 * @property {string} spec      what xl's target= gets
 * @property {string} measured  the file whose allocated blocks are the space the target uses
 */

/**
 * @param {0 | 1 | 2 | 3} index the NVMe disk with serial rig<index>; 2 has 4 KiB blocks, 3 errors
 * @returns {Promise<string>} its controller's name: "nvme0"
 */
async function controllerName(index) {
  for (const name of await readdir('/sys/class/nvme')) {
    const serial = await readFile(`/sys/class/nvme/${name}/serial`, 'utf8');
    if (serial.trim() === `rig${index}`) return name;
  }
  throw new Error(`dom0 has no NVMe disk with serial rig${index}`);
}

/**
 * @param {0 | 1 | 2 | 3} index
 * @returns {Promise<Target>} the disk as an ordinary block device
 */
export async function blockTarget(index) {
  const name = await controllerName(index);
  return { spec: `/dev/${name}n1`, measured: `/host/nvme${index}.img` };
}

/**
 * @param {0 | 1 | 2 | 3} index
 * @returns {Promise<Target>} the disk through its generic NVMe character device
 */
export async function nvmeTarget(index) {
  const name = await controllerName(index);
  return {
    spec: `nvme:/dev/${name.replace('nvme', 'ng')}n1`,
    measured: `/host/nvme${index}.img`,
  };
}

/**
 * @param {string} name
 * @param {number} bytes
 * @param {string} [dir]
 * @returns {Promise<Target>} a new sparse file
 */
export async function fileTarget(name, bytes, dir = FILES_DIR) {
  const path = `${dir}/${name}.img`;
  await mkdir(dir, { recursive: true });
  await rm(path, { force: true });
  await (await open(path, 'w')).close();
  await truncate(path, bytes);
  return { spec: path, measured: path };
}

/**
 * @param {Target} target
 * @returns {Promise<number>} bytes of real storage behind the target
 */
export async function allocatedBytes(target) {
  return (await stat(target.measured)).blocks * 512;
}

const MAPPED_BYTES = 64 << 20;
export const MAPPED_SECTORS = MAPPED_BYTES / 512;

/** A device-mapper device over a loop device, whose table can be exchanged under its user. */
export class MappedDevice {
  /** @param {string} name @param {string} under */
  constructor(name, under) {
    this.name = name;
    this.under = under;
  }

  /** @param {string} name of MAPPED_SECTORS; linear at first */
  static async create(name) {
    const { measured } = await fileTarget(name, MAPPED_BYTES);
    const under = (await run('losetup', ['--find', '--show', '--direct-io=on', measured])).trim();
    const mapped = new MappedDevice(name, under);
    await run('dmsetup', ['create', name, '--table', mapped.linear()]);
    return mapped;
  }

  get path() {
    return `/dev/mapper/${this.name}`;
  }

  /** @param {number} [start] sectors @param {number} [length] */
  linear(start = 0, length = MAPPED_SECTORS - start) {
    return `${start} ${length} linear ${this.under} ${start}`;
  }

  /** @param {string} table of device-mapper */
  async become(table) {
    await run('dmsetup', ['load', this.name, '--table', table]);
    await run('dmsetup', ['resume', this.name]);
  }

  async remove() {
    await run('dmsetup', ['resume', this.name]);
    await run('dmsetup', ['remove', '--retry', this.name]);
    await run('losetup', ['--detach', this.under]);
  }
}
