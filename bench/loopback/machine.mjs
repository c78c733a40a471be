// SPDX-License-Identifier: Apache-2.0
// A loopback machine whose daemon is a process of its own, as on a host; guests and xenstore are
// in this process.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { ControlClient } from '../../dist/control/client.js';
import { controlSocketPath } from '../../dist/control/protocol.js';
import { native } from '../../dist/datapath/binding.js';
import { loopbackMachineDir, loopbackXenstoreSocket } from '../../dist/platform/loopback.js';
import { LoopbackFrontend } from '../../dist/platform/loopback_frontend.js';
import { createVbd, detachVbd } from '../../dist/platform/loopback_toolstack.js';
import { MemoryXenstore } from '../../dist/xenstore/memory_client.js';
import { MemorySession, MemoryStore } from '../../dist/xenstore/memory_store.js';
import { serveXenstore } from '../../dist/xenstore/server.js';

const MAIN = fileURLToPath(new URL('../../dist/ringdisk.cjs', import.meta.url));
// As systemd starts it: with privileges it would start itself a second time, without them.
const CONFINED = ['--no-new-privs', ...(process.getuid?.() === 0 ? ['--bounding-set=-all'] : [])];
const DEVID = 51712;

/** What a daemon says when it has looked at what the one before left. */
export const WENT_ON = 'went on with the disks of the daemon before';

export class Machine {
  /** What the running daemon has said, by its message. @type {Map<string, { time: string }>} */
  said = new Map();
  /** What the daemon took when it had no disk. */
  emptyMemory = 0;
  #store = new MemoryStore();
  /** @type {import('node:child_process').ChildProcess | undefined} */
  #daemon;
  /** @type {{ close(): Promise<void> } | undefined} */
  #server;
  /** @type {LoopbackFrontend[]} */
  #guests = [];

  /** @param {Record<string, unknown>} [config] besides the folder */
  static async start(config = {}) {
    const machine = new Machine(mkdtempSync('/dev/shm/ringdisk-bench-'), config);
    const socket = loopbackXenstoreSocket(machine.folder);
    machine.#server = await serveXenstore(machine.#store, { path: socket, domid: 0 });
    await machine.startDaemon('serving');
    machine.emptyMemory = machine.memory();
    return machine;
  }

  /** @param {string} folder @param {Record<string, unknown>} config */
  constructor(folder, config) {
    this.folder = folder;
    this.configFile = path.join(folder, 'config.json');
    writeFileSync(this.configFile, JSON.stringify(config));
  }

  get pid() {
    return this.#daemon?.pid ?? 0;
  }

  /** @param {string} message resolves when the daemon has said so */
  startDaemon(message) {
    const where = ['--runtime-dir', this.folder, '--config', this.configFile];
    const args = [...CONFINED, process.execPath, MAIN, 'serve', '--platform', 'loopback', ...where];
    const daemon = spawn('setpriv', args, { stdio: ['ignore', 'ignore', 'pipe'] });
    this.#daemon = daemon;
    this.said.clear();
    const saidSo = new Promise((resolve, reject) => {
      createInterface({ input: daemon.stderr }).on('line', (line) => {
        const entry = JSON.parse(line);
        if (!this.said.has(entry.msg)) this.said.set(entry.msg, entry);
        if (entry.msg === message) resolve(undefined);
      });
      daemon.once('exit', () => reject(new Error(`the daemon ended: ${[...this.said.keys()]}`)));
    });
    // Whoever started it may look later, or never when something else failed first.
    saidSo.catch(() => {});
    return saidSo;
  }

  /** Ends it; the guests stay. @param {NodeJS.Signals} [signal] */
  async killDaemon(signal = 'SIGKILL') {
    const daemon = this.#daemon;
    if (!daemon) return;
    daemon.kill(signal);
    await once(daemon, 'exit');
    // As Xen would.
    for (const guest of this.#guests) guest.backendDied();
  }

  /** @param {number} domid */
  xenstore(domid) {
    return new MemoryXenstore(new MemorySession(this.#store, domid));
  }

  /**
   * A new sparse file, as a target.
   * @param {string} name @param {number} bytes
   */
  image(name, bytes) {
    const file = path.join(this.folder, `${name}.img`);
    writeFileSync(file, '');
    truncateSync(file, bytes);
    return `aio:${file}`;
  }

  /** A guest with a disk that nobody has connected yet. @param {string} params */
  async plug(params) {
    const domid = this.#guests.length + 1;
    const spec = { domid, devid: DEVID, vdev: 'xvda', params };
    const paths = await createVbd(this.xenstore(0), spec);
    const folder = loopbackMachineDir(this.folder);
    const frontend = new LoopbackFrontend(native, folder, this.xenstore(domid), paths);
    this.#guests.push(frontend);
    return { frontend, paths };
  }

  /**
   * As xl does, of a connected disk.
   * @param {{ frontend: LoopbackFrontend,
   *   paths: import('../../dist/platform/loopback_toolstack.js').VbdPaths }} guest
   */
  async unplug({ frontend, paths }) {
    await Promise.all([detachVbd(this.xenstore(0), paths), frontend.closedByBackend()]);
  }

  async stats() {
    const client = await ControlClient.connect(controlSocketPath(this.folder));
    try {
      return await client.call('stats', {});
    } finally {
      client.close();
    }
  }

  /** Each thread's own file of that name. @param {string} name @returns {string[]} */
  threadFiles(name) {
    const folder = `/proc/${this.pid}/task`;
    return readdirSync(folder).map((thread) => readFileSync(`${folder}/${thread}/${name}`, 'utf8'));
  }

  /** Resident bytes. */
  memory() {
    const status = readFileSync(`/proc/${this.pid}/status`, 'utf8');
    return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]) * 1024;
  }

  async close() {
    await this.killDaemon();
    for (const guest of this.#guests) await guest.close();
    await this.#server?.close();
    rmSync(this.folder, { recursive: true });
  }
}
