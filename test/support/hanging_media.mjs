// SPDX-License-Identifier: Apache-2.0
// Media that stop answering until they are told to go on: a file on a frozen file system, a file
// whose FUSE server is stopped, a block device over such a file. All need root; where one cannot be
// had, missingForHanging() says why. JavaScript, because the benchmarks use it as well.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const FILE_SYSTEM_BYTES = 400 << 20;

/**
 * @typedef {object} HangingMedium
 * @property {string} params as a toolstack writes it
 * @property {() => void} hang
 * @property {() => void} goOn
 * @property {() => Promise<void>} remove goes on and removes everything
 *
 * @typedef {(bytes: number) => Promise<HangingMedium>} MediumMaker
 */

/** @param {string} command @param {string[]} args */
function run(command, ...args) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr || error?.message}`);
  return stdout.trim();
}

/** @returns {string | undefined} undefined: all is there */
export function missingForHanging() {
  if (process.getuid?.() !== 0) return 'it needs root';
  const tools = ['losetup', 'mount', 'fsfreeze', 'mkfs.ext4', 'bindfs'];
  const missing = tools.filter((tool) => spawnSync('which', [tool]).status !== 0);
  if (missing.length > 0) return `not installed: ${missing.join(', ')}`;
  return existsSync('/dev/fuse') ? undefined : 'there is no /dev/fuse';
}

function temporaryFolder() {
  return mkdtempSync('/dev/shm/ringdisk-hanging-');
}

/**
 * A file of `bytes` that is all there, so that writing it allocates nothing.
 * @param {string} file @param {number} bytes
 */
function fill(file, bytes) {
  writeFileSync(file, Buffer.alloc(bytes, 0x5a), { flush: true });
}

/** @param {'ext4' | 'xfs'} type of the file system, and how it is made @returns {MediumMaker} */
export function onFrozen(type) {
  return async (bytes) => {
    const folder = temporaryFolder();
    const image = path.join(folder, 'fs.img');
    const mounted = path.join(folder, 'mnt');
    mkdirSync(mounted);
    writeFileSync(image, '');
    truncateSync(image, FILE_SYSTEM_BYTES);
    run(`mkfs.${type}`, '-q', image);
    run('mount', '-o', 'loop', image, mounted);
    const file = path.join(mounted, 'disk.img');
    fill(file, bytes);
    let frozen = false;
    const goOn = () => {
      if (frozen) run('fsfreeze', '--unfreeze', mounted);
      frozen = false;
    };
    return {
      params: `aio:${file}`,
      hang: () => {
        run('fsfreeze', '--freeze', mounted);
        frozen = true;
      },
      goOn,
      remove: async () => {
        goOn();
        await eventually(() => spawnSync('umount', [mounted]).status === 0);
        rmSync(folder, { recursive: true });
      },
    };
  };
}

/** What is behind its path answers as long as this process runs. */
async function fuseFolder() {
  const folder = temporaryFolder();
  const [behind, shown] = [path.join(folder, 'behind'), path.join(folder, 'shown')];
  mkdirSync(behind);
  mkdirSync(shown);
  const server = spawn('bindfs', ['-f', '--no-allow-other', behind, shown], { stdio: 'ignore' });
  await eventually(() => spawnSync('mountpoint', ['-q', shown]).status === 0);
  return { server, behind, shown };
}

/** @type {MediumMaker} */
export const onStoppedFuse = async (bytes) => {
  const { server, behind, shown } = await fuseFolder();
  fill(path.join(behind, 'disk.img'), bytes);
  return {
    params: `aio:${path.join(shown, 'disk.img')}`,
    hang: () => void server.kill('SIGSTOP'),
    goOn: () => void server.kill('SIGCONT'),
    remove: () => removeFuse(server, shown),
  };
};

/** The loop device's own threads wait, as a disk's controller would. @type {MediumMaker} */
export const onLoopOverFuse = async (bytes) => {
  const { server, behind, shown } = await fuseFolder();
  fill(path.join(behind, 'disk.img'), bytes);
  const device = run('losetup', '--find', '--show', path.join(shown, 'disk.img'));
  return {
    params: `aio:${device}`,
    hang: () => void server.kill('SIGSTOP'),
    goOn: () => void server.kill('SIGCONT'),
    remove: async () => {
      server.kill('SIGCONT');
      await eventually(() => spawnSync('losetup', ['--detach', device]).status === 0);
      await removeFuse(server, shown);
    },
  };
};

/** @param {import('node:child_process').ChildProcess} server @param {string} shown */
async function removeFuse(server, shown) {
  server.kill('SIGCONT');
  await eventually(() => spawnSync('umount', [shown]).status === 0);
  server.kill('SIGTERM');
  rmSync(path.dirname(shown), { recursive: true, force: true });
}

/** @param {() => boolean} isSo */
async function eventually(isSo) {
  for (let tries = 0; tries < 200; tries++) {
    if (isSo()) return;
    await sleep(50);
  }
  throw new Error('it did not happen within 10 s');
}
