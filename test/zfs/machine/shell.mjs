// SPDX-License-Identifier: Apache-2.0
// Programs of the machine.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const LIMIT = { maxBuffer: 64 * 1024 * 1024, timeout: 60_000 };

/** @param {string} program @param {string[]} args @returns {Promise<string>} what it wrote */
export async function run(program, ...args) {
  const { stdout } = await promisify(execFile)(program, args, LIMIT);
  return stdout;
}

/** @param {string} text @returns {Promise<string>} */
export function sh(text) {
  return run('bash', '-euo', 'pipefail', '-c', text);
}

/**
 * @template T
 * @param {string} what
 * @param {Promise<T>} promise
 * @param {number} ms
 * @returns {Promise<T>}
 */
export async function within(what, promise, ms) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: no end within ${ms / 1000} s`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
