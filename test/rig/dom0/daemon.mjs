// SPDX-License-Identifier: Apache-2.0
// The daemon under test, run as a user would, and what can be told about it from outside.
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { readdir, readFile, readlink, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { run, waitFor } from './shell.mjs';

export const PROJECT = '/host/ringdisk';
export const BLOCK_SCRIPT = `${PROJECT}/src/host/block-ringdisk`;
export const LOG = '/host/logs/daemon.log';
export const MAIN = `${PROJECT}/dist/ringdisk.cjs`;
const RUNTIME_DIR = '/run/ringdisk';
const CONFIG = '/run/rig/ringdisk.json';
// The kernel starts and ends io_uring's workers in our process as it sees fit.
const KERNEL_WORKER = 'iou-wrk';
// Beside guests under load, Node alone has taken two minutes to start under emulation.
const START_MS = 180_000;
const STOP_MS = 30_000;
const COMMAND_MS = 180_000;
// As systemd starts it. It gives its privileges up by itself too (see 60_daemon), but starts a
// second time for that.
const CONFINED = [
  '--memlock=unlimited',
  'setpriv',
  '--no-new-privs',
  '--bounding-set=-all',
  'node',
];

/**
 * Runs a ringdisk command against the running daemon.
 * @param {string[]} args
 * @returns {Promise<string>} its standard output
 */
export function ringdisk(...args) {
  return run('node', [MAIN, ...args, '--runtime-dir', RUNTIME_DIR], { timeoutMs: COMMAND_MS });
}

/**
 * @param {string[]} args
 * @returns {Promise<any>} the result in what the command prints with --json
 */
export async function ringdiskJson(...args) {
  return JSON.parse(await ringdisk(...args, '--json')).result;
}

/**
 * A daemon's statistics, without starting a command, which takes seconds under emulation.
 * @param {string} [runtimeDir]
 * @returns {Promise<any>} as `ringdiskJson('stats')`
 */
export function quickStats(runtimeDir = RUNTIME_DIR) {
  return new Promise((resolve, reject) => {
    const socket = connect(`${runtimeDir}/control.sock`);
    let text = '';
    socket.on('error', reject);
    socket.on('data', (chunk) => {
      text += chunk;
      if (!text.endsWith('\n')) return;
      socket.destroy();
      resolve(JSON.parse(text).result);
    });
    socket.write(`${JSON.stringify({ protocol: 1, id: 1, method: 'stats' })}\n`);
  });
}

/** Where libxl looks for the script of a disk that names none. */
export async function installAsBlockTap() {
  await run('install', ['-m', '755', BLOCK_SCRIPT, '/etc/xen/scripts/block-tap']);
}

/** @returns {Promise<any[]>} all entries of the log, of all daemons so far */
export async function daemonLog() {
  const lines = (await readFile(LOG, 'utf8')).split('\n');
  return lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line));
}

/**
 * @param {any[]} entries of a log
 * @returns {any[]} what was said of each disk that was taken over
 */
export function takeOversIn(entries) {
  return entries.filter(({ msg }) => msg === 'taken over');
}

/** @param {any[]} entries @param {string} key */
export function sumOf(entries, key) {
  return entries.reduce((sum, entry) => sum + entry[key], 0);
}

/** @param {string} path @returns {Promise<boolean>} whether somebody listens there */
function accepts(path) {
  return new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}

/** @typedef {{ rssBytes: number, descriptors: number, threads: number }} Footprint */

export class Daemon {
  /** The one last started. @type {Daemon | undefined} */
  static current;
  /** @type {import('node:child_process').ChildProcess} */
  #process;
  /** How it ended, once it has. @type {string | undefined} */
  ended;

  /**
   * @param {import('node:child_process').ChildProcess} child
   * @param {string} label tells daemons of different configuration apart
   */
  constructor(child, label) {
    this.#process = child;
    this.label = label;
    child.on('exit', (code, signal) => {
      this.ended = signal ?? `exit ${code}`;
    });
  }

  /**
   * Starts the daemon and waits until its commands are answered.
   * @param {Record<string, unknown>} [config] the configuration file's content; empty: no file
   * @param {string} [launcher] a program that starts it
   */
  static async start(config = {}, launcher = undefined) {
    const label = JSON.stringify(config);
    const args = [MAIN, 'serve', '--runtime-dir', RUNTIME_DIR];
    if (label !== '{}') {
      await writeFile(CONFIG, label);
      args.push('--config', CONFIG);
    }
    const whole = ['prlimit', ...CONFINED, ...args];
    const [program = '', ...rest] = launcher ? [launcher, ...whole] : whole;
    return Daemon.#spawn(program, rest, label).#started();
  }

  /** Starts it with all that root may do. */
  static async startPrivileged() {
    return Daemon.#spawn('node', [MAIN, 'serve', '--runtime-dir', RUNTIME_DIR], '{}').#started();
  }

  /**
   * Kills the running daemon with SIGKILL and starts one like it.
   * @param {string} [launcher] see start()
   */
  static async killAndStart(launcher = undefined) {
    const { current } = Daemon;
    if (!current) throw new Error('there is no daemon to kill');
    await current.kill();
    return Daemon.start(JSON.parse(current.label), launcher);
  }

  /** `ringdisk upgrade`: the command takes the disks over and becomes the daemon. */
  static async upgrade() {
    const before = Daemon.current;
    if (!before) throw new Error('there is no daemon to replace');
    const args = [MAIN, 'upgrade', '--runtime-dir', RUNTIME_DIR];
    const after = Daemon.#spawn('node', args, before.label);
    await waitFor('the old daemon to end', () => before.ended, { timeoutMs: STOP_MS });
    return after.#started();
  }

  /**
   * @param {string} command
   * @param {string[]} args
   * @param {string} label
   */
  static #spawn(command, args, label) {
    const log = openSync(LOG, 'a');
    const stdio = /** @type {const} */ (['ignore', log, log]);
    const daemon = new Daemon(spawn(command, args, { stdio: [...stdio] }), label);
    Daemon.current = daemon;
    closeSync(log);
    return daemon;
  }

  get pid() {
    return /** @type {number} */ (this.#process.pid);
  }

  /** Stops the daemon with SIGTERM; rejects unless it ends with status 0 in time. */
  async stop() {
    this.#process.kill('SIGTERM');
    try {
      await waitFor('the daemon to stop', () => this.ended, { timeoutMs: STOP_MS });
    } finally {
      this.#process.kill('SIGKILL');
    }
    if (this.ended !== 'exit 0') throw new Error(`the daemon stopped with ${this.ended}`);
  }

  /** SIGKILL, at whatever it is doing; waits until the process is gone. */
  async kill() {
    this.#process.kill('SIGKILL');
    await waitFor('the killed daemon to end', () => this.ended, {
      timeoutMs: STOP_MS,
      everyMs: 20,
    });
  }

  /** @returns {Promise<Footprint>} */
  async footprint() {
    const proc = `/proc/${this.pid}`;
    const status = await readFile(`${proc}/status`, 'utf8');
    const tasks = await readdir(`${proc}/task`);
    const names = await Promise.all(
      tasks.map((task) => readFile(`${proc}/task/${task}/comm`, 'utf8').catch(() => '')),
    );
    return {
      rssBytes: Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]) * 1024,
      descriptors: (await readdir(`${proc}/fd`)).length,
      threads: names.filter((name) => name && !name.startsWith(KERNEL_WORKER)).length,
    };
  }

  /** @returns {Promise<string[]>} the content of /proc/<pid>/task/<thread>/status, of all */
  async threadStatuses() {
    const dir = `/proc/${this.pid}/task`;
    const threads = await readdir(dir);
    return Promise.all(threads.map((thread) => readFile(`${dir}/${thread}/status`, 'utf8')));
  }

  /** @returns {Promise<string[]>} paths of all files it has open */
  async openFiles() {
    const dir = `/proc/${this.pid}/fd`;
    const links = await Promise.all(
      (await readdir(dir)).map((fd) => readlink(`${dir}/${fd}`).catch(() => '')),
    );
    return links.filter((link) => link.startsWith('/'));
  }

  /** @returns {Promise<number>} memory areas of the daemon that are other domains' pages */
  async grantMappings() {
    const maps = await readFile(`/proc/${this.pid}/maps`, 'utf8');
    return maps.split('\n').filter((line) => line.includes('/dev/xen/gntdev')).length;
  }

  async #started() {
    await waitFor('the daemon to answer', () => this.#answers(), { timeoutMs: START_MS });
    return this;
  }

  async #answers() {
    if (this.ended) throw new Error(`the daemon ended at once: ${this.ended}`);
    // Not with a command: starting one takes as long as starting the daemon, and slows that down.
    return accepts(`${RUNTIME_DIR}/control.sock`);
  }
}
