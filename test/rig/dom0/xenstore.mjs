// SPDX-License-Identifier: Apache-2.0
// The few xenstore operations the driver needs, through Xen's own command line tools, so that the
// rig judges ringdisk's xenstore client and never relies on it.
import { spawn } from 'node:child_process';
import { run } from './shell.mjs';

/**
 * @param {string} path
 * @returns {Promise<string | undefined>} undefined where there is no such node
 */
export async function readNode(path) {
  try {
    return (await run('xenstore-read', ['-R', path])).replace(/\n$/, '');
  } catch {
    return undefined;
  }
}

/**
 * @param {string} path
 * @returns {Promise<string[]>} names of its children; none where there is no such node
 */
export async function listNodes(path) {
  const listed = await run('xenstore-list', [path]).catch(() => '');
  return listed.split('\n').filter(Boolean);
}

/**
 * @param {string} path
 * @param {string} value
 */
export async function writeNode(path, value) {
  await run('xenstore-write', ['-R', path, value]);
}

/**
 * Waits for a node to satisfy `accept`, looking again at every change of it.
 * @param {string} path
 * @param {(value: string | undefined) => boolean} accept
 * @param {number} timeoutMs
 * @param {string} [anchor] a node without which there is nothing to wait for
 * @returns {Promise<string | undefined>} the accepted value
 */
export async function waitForNode(path, accept, timeoutMs, anchor) {
  const watched = anchor ? [path, anchor] : [path];
  const watch = spawn('xenstore-watch', watched, { stdio: ['ignore', 'pipe', 'ignore'] });
  const timer = setTimeout(() => watch.kill(), timeoutMs);
  let value;
  try {
    for await (const _change of watch.stdout) {
      value = await readNode(path);
      if (accept(value)) return value;
      if (anchor && (await readNode(anchor)) === undefined) throw new Error(`${anchor} is gone`);
    }
  } finally {
    clearTimeout(timer);
    watch.kill();
  }
  throw new Error(`waited ${timeoutMs / 1000} s for ${path}; it is ${value ?? 'absent'}`);
}
