// SPDX-License-Identifier: Apache-2.0
// What is measured on: nothing, a loop device over tmpfs (a fast block device without a disk's
// noise), and a file on the disk. All are filled, since holes would cost what data does not.
import { spawnSync } from 'node:child_process';
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import path from 'node:path';

const BYTES = 256 << 20;
const MIB = 1 << 20;

/**
 * @typedef {object} Target
 * @property {'null' | 'block' | 'file'} kind ringdisk's
 * @property {string} path
 * @property {string} [missing] why it is not there
 * @property {() => void} close
 */

/** @param {string} disk a folder on the disk @returns {Record<string, Target>} */
export function openTargets(disk) {
  const nothing = { kind: /** @type {const} */ ('null'), path: String(BYTES), close: () => {} };
  mkdirSync(disk, { recursive: true });
  return { null: nothing, loop: loopDevice(), file: file(disk) };
}

/** @param {string} folder @returns {Target} */
function file(folder) {
  const own = mkdtempSync(path.join(folder, 'target-'));
  const image = path.join(own, 'disk.img');
  fill(image);
  return { kind: 'file', path: image, close: () => rmSync(own, { recursive: true }) };
}

/** @returns {Target} */
function loopDevice() {
  const backing = file('/dev/shm');
  const made = spawnSync('losetup', ['--find', '--show', backing.path], { encoding: 'utf8' });
  const device = made.stdout?.trim() ?? '';
  if (made.status !== 0) {
    return { ...backing, missing: `no loop device: ${made.stderr ?? made.error?.message}` };
  }
  const close = () => {
    spawnSync('losetup', ['--detach', device]);
    backing.close();
  };
  return { kind: 'block', path: device, close };
}

/** @param {string} image */
function fill(image) {
  const block = Buffer.alloc(MIB, 0x5a);
  const fd = openSync(image, 'w');
  for (let done = 0; done < BYTES; done += MIB) writeSync(fd, block);
  closeSync(fd);
}
