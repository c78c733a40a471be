// SPDX-License-Identifier: Apache-2.0
// Running commands and waiting, the two things every part of the driver does.
import { execFile } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Runs a command to its end.
 * @param {string} command
 * @param {string[]} args
 * @param {{ timeoutMs?: number }} [options]
 * @returns {Promise<string>} its standard output; rejects with the command line and what it said
 */
export function run(command, args, { timeoutMs = 60_000 } = {}) {
  return new Promise((resolve, reject) => {
    const options = { timeout: timeoutMs, maxBuffer: 16 << 20 };
    execFile(command, args, options, (error, stdout, stderr) => {
      if (!error) return resolve(stdout);
      const why = error.killed ? `no end within ${timeoutMs / 1000} s` : `exit ${error.code}`;
      const said = ends(`${stderr}${stdout}`.trim().split('\n')).join(' | ');
      reject(new Error(`${command} ${args.join(' ')}: ${why}: ${said}`));
    });
  });
}

/**
 * Runs shell text to the first command that fails.
 * @param {string} script
 * @param {{ timeoutMs?: number }} [options]
 */
export function bash(script, options) {
  return run('bash', ['-ec', script], options);
}

/** The cause comes first in what libxl says, what it then could not do comes last. */
function ends(/** @type {string[]} */ lines) {
  return lines.length > 8 ? [...lines.slice(0, 4), '…', ...lines.slice(-4)] : lines;
}

/**
 * Looks every `everyMs` until `probe` gives something truthy.
 * @template T
 * @param {string} what for the error: "waited 5 s for <what>"
 * @param {() => T | Promise<T>} probe
 * @param {{ timeoutMs: number, everyMs?: number }} options
 * @returns {Promise<T>}
 */
export async function waitFor(what, probe, { timeoutMs, everyMs = 200 }) {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const value = await probe();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`waited ${timeoutMs / 1000} s for ${what}`);
    await sleep(everyMs);
  }
}

/**
 * Gives a promise a time limit; what it was doing goes on, the scenario's cleanup ends it.
 * @template T
 * @param {string} what
 * @param {Promise<T>} promise
 * @param {number} timeoutMs
 * @returns {Promise<T>}
 */
export async function within(what, promise, timeoutMs) {
  const cancel = new AbortController();
  const limit = sleep(timeoutMs, undefined, { signal: cancel.signal }).then(
    () => {
      throw new Error(`${what}: no end within ${timeoutMs / 1000} s`);
    },
    () => /** @type {never} */ (undefined),
  );
  try {
    return await Promise.race([promise, limit]);
  } finally {
    cancel.abort();
  }
}
