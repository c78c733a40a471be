// SPDX-License-Identifier: Apache-2.0
// The manager as a process, and the commands that are its clients.
import { execFile, spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

const RINGDISK = '/host/ringdisk/dist/ringdisk.cjs';

/** @param {string[]} args @returns {Promise<{ stdout: string, stderr: string }>} */
export async function ringdisk(...args) {
  return promisify(execFile)('node', [RINGDISK, ...args]);
}

/** @param {string[]} args @returns {Promise<any>} the result of its envelope */
export async function json(...args) {
  const { stdout } = await ringdisk(...args, '--json');
  return JSON.parse(stdout).result;
}

/** A manager that answers. */
export async function started() {
  const child = spawn('node', [RINGDISK, 'manage'], { stdio: ['ignore', 'ignore', 'inherit'] });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  for (let i = 0; i < 300; i++) {
    const answers = await json('pool', 'list').then(
      () => true,
      () => false,
    );
    if (answers) return { child, ended, ringdisk, json };
    await sleep(100);
  }
  throw new Error('ringdisk manage does not answer');
}
