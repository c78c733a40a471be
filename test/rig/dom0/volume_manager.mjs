// SPDX-License-Identifier: Apache-2.0
// The volume manager, run as an operator would, and ZFS's own words about what it has made.
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { access } from 'node:fs/promises';
import { MAIN } from './daemon.mjs';
import { run, waitFor } from './shell.mjs';

const RUNTIME_DIR = '/run/ringdisk-manage';
const LOG = '/host/logs/manager.log';
/** Under emulation. */
const START_MS = 180_000;
const COMMAND_MS = 180_000;
const ARC_BYTES = 128 << 20;

/** Loads ZFS, which the image has for scenarios that need it. */
export async function loadZfs() {
  await run('modprobe', ['zfs', `zfs_arc_max=${ARC_BYTES}`]);
}

/**
 * Runs a command of the manager's.
 * @param {string[]} args
 * @returns {Promise<any>} the result in what the command prints with --json
 */
export async function manage(...args) {
  const text = await run('node', [MAIN, ...args, '--json', '--runtime-dir', RUNTIME_DIR], {
    timeoutMs: COMMAND_MS,
  });
  return JSON.parse(text).result;
}

export class VolumeManager {
  /** @type {import('node:child_process').ChildProcess} */
  #process;

  /** @param {import('node:child_process').ChildProcess} child */
  constructor(child) {
    this.#process = child;
  }

  static async start() {
    const log = openSync(LOG, 'a');
    const child = spawn('node', [MAIN, 'manage', '--runtime-dir', RUNTIME_DIR], {
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    const answers = async () => {
      if (child.exitCode !== null) throw new Error(`the manager has ended: see ${LOG}`);
      return (await manage('pool', 'list').catch(() => undefined)) !== undefined;
    };
    await waitFor('the volume manager', answers, { timeoutMs: START_MS, everyMs: 1000 });
    return new VolumeManager(child);
  }

  /** @param {NodeJS.Signals} signal */
  async end(signal) {
    const child = this.#process;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const over = new Promise((done) => child.once('exit', done));
    child.kill(signal);
    await over;
  }
}

/** @param {string} name @param {string} dataset @returns {Promise<number>} */
export async function zfsNumber(name, dataset) {
  return Number(await run('zfs', ['get', '-Hp', '-o', 'value', name, dataset]));
}

/**
 * Counters of ZFS's intent log, of all pools.
 * @param {string} name as in the kstat: "zil_commit_count"
 * @returns {Promise<number>}
 */
export async function intentLog(name) {
  const text = await run('cat', ['/proc/spl/kstat/zfs/zil']);
  const value = new RegExp(`^${name}\\s+\\d+\\s+(\\d+)`, 'm').exec(text)?.[1];
  if (value === undefined) throw new Error(`ZFS counts no ${name}`);
  return Number(value);
}

/** @param {string} path @returns {Promise<boolean>} */
export function exists(path) {
  return access(path).then(
    () => true,
    () => false,
  );
}
