// SPDX-License-Identifier: Apache-2.0
// The rig's machine as the host sees it: whether it can run here, its image, booting it.
import { spawn, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const IMAGE_SCRIPTS = fileURLToPath(new URL('../image', import.meta.url));
const LOOK_MS = 500;

/** @returns {string | undefined} why this machine can't run the rig */
export function obstacle() {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    return `it needs Linux on x86-64, this is ${process.platform} on ${process.arch}`;
  }
  if (spawnSync('apt-get', ['--version']).error) {
    return 'it needs a Debian host: there is no apt-get';
  }
  return undefined;
}

/** @returns {string} the image's folder */
export function buildImage({ zfs = false } = {}) {
  return built('build.sh', zfs ? ['--zfs'] : []);
}

/** @returns {string} the folder of the guests' other kernels */
export function fetchKernels() {
  return built('kernels.sh');
}

/** @param {string} script @param {string[]} [args] */
function built(script, args = []) {
  const { status, stdout } = spawnSync(join(IMAGE_SCRIPTS, script), args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (status !== 0) throw new Error(`image/${script} failed (see above)`);
  return stdout.trim();
}

/**
 * @typedef {object} BootOptions
 * @property {string} limit         seconds
 * @property {boolean} [icount]     one CPU, whose clock counts instructions
 * @property {string} [script]      default: boot.sh, with Xen
 * @property {() => void} whileRunning  called now and then, and once more at the end
 *
 * @param {string} image
 * @param {string} share its dom0_job is what runs
 * @param {BootOptions} options
 * @returns {Promise<number>} the job's exit status, or boot.sh's own
 */
export async function boot(image, share, options) {
  const { limit, icount = false, script = join(IMAGE_SCRIPTS, 'boot.sh'), whileRunning } = options;
  const env = { ...process.env, ...(icount ? { RIG_ICOUNT: '1' } : {}) };
  const child = spawn(script, [image, share, limit], {
    stdio: 'inherit',
    env,
  });
  const timer = setInterval(whileRunning, LOOK_MS);
  const code = await new Promise((done) => child.on('close', done));
  clearInterval(timer);
  whileRunning();
  return code;
}
