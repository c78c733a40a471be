// SPDX-License-Identifier: Apache-2.0
// Media that hang when they are told to, and go on when they are told to: a device-mapper device, a
// file on a frozen file system, a file behind a FUSE server that stands still.
import { readdir, readFile } from 'node:fs/promises';
import { bashBeside, spawnBeside } from './service.mjs';
import { run, waitFor } from './shell.mjs';
import { fileTarget, MappedDevice } from './targets.mjs';

const MIB = 1 << 20;

/**
 * @typedef {object} HangingMedium
 * @property {string} path
 * @property {() => Promise<unknown>} hang
 * @property {() => Promise<boolean>} hangs whether what somebody asked of it hangs
 * @property {() => Promise<unknown>} goOn
 * @property {() => Promise<unknown>} remove
 */

/** Reads, writes and flushes hang. @returns {Promise<HangingMedium>} */
export async function suspendedDevice() {
  const mapped = await MappedDevice.create('service-hung');
  return {
    path: mapped.path,
    hang: () => run('dmsetup', ['suspend', '--noflush', '--nolockfs', mapped.name]),
    hangs: () => aWorkerWaits(/^D/),
    goOn: () => run('dmsetup', ['resume', mapped.name]),
    remove: () => mapped.remove(),
  };
}

/** Writes and discards hang. @returns {Promise<HangingMedium>} */
export async function frozenFileSystem() {
  const folder = await smallFileSystem('frozen');
  return {
    path: `${folder}/disk.img`,
    hang: () => bashBeside(`fsfreeze --freeze ${folder}`),
    hangs: () => aWorkerWaits(/^D/),
    goOn: () => bashBeside(`fsfreeze --unfreeze ${folder}`),
    remove: () => bashBeside(`umount ${folder}; rmdir ${folder}`),
  };
}

/** Everything hangs: opens, and a look at what it is, too. @returns {Promise<HangingMedium>} */
export async function fuseServer() {
  const behind = await smallFileSystem('behind');
  const folder = '/srv/fuse';
  await bashBeside(`mkdir -p ${folder}`);
  const server = await spawnBeside('bindfs', ['-f', '-o', 'allow_other', behind, folder]);
  const mounts = `/proc/${server.pid}/mounts`;
  const isMounted = async () => (await readFile(mounts, 'utf8')).includes(` ${folder} `);
  await waitFor('bindfs to mount', isMounted, { timeoutMs: 30_000 });
  return {
    path: `${folder}/disk.img`,
    hang: async () => server.kill('SIGSTOP'),
    hangs: () => aWorkerWaits(/fuse|request_wait_answer/),
    goOn: async () => server.kill('SIGCONT'),
    remove: async () => {
      await bashBeside(`umount ${folder}`);
      await waitFor('bindfs to end', () => server.exitCode !== null, { timeoutMs: 30_000 });
      await bashBeside(`umount ${behind}; rmdir ${folder} ${behind}`);
    },
  };
}

/** @param {string} name @returns {Promise<string>} where it is mounted; it has a disk.img */
async function smallFileSystem(name) {
  const { measured } = await fileTarget(name, 96 * MIB);
  const folder = `/srv/${name}`;
  await bashBeside(`mke2fs -q -t ext4 -F ${measured}
mkdir -p ${folder}; mount -o loop ${measured} ${folder}
dd if=/dev/zero of=${folder}/disk.img bs=1M count=32 conv=fsync 2>/dev/null`);
  return folder;
}

/**
 * @param {RegExp} where a thread's state, or where in the kernel it waits: "D", "S fuse_dev_write"
 * @returns {Promise<boolean>} whether a worker's thread does
 */
async function aWorkerWaits(where) {
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    for (const task of await readdir(`/proc/${pid}/task`).catch(() => [])) {
      const read = (/** @type {string} */ name) =>
        readFile(`/proc/${pid}/task/${task}/${name}`, 'utf8').catch(() => '');
      const state = /\(rd-(?!reactor)[^)]*\) (\w)/.exec(await read('stat'))?.[1];
      if (state && where.test(`${state} ${await read('wchan')}`)) return true;
    }
  }
  return false;
}
