// SPDX-License-Identifier: Apache-2.0
// Guests, through stock xl. A guest runs shell text that dom0 hands it in xenstore
// (see image/guest_init) and says on its console what that prints.
import { readFile, stat, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { BLOCK_SCRIPT, LOG, quickStats } from './daemon.mjs';
import { STRAY_BREAKPOINT } from './guest_log.mjs';
import { note } from './report.mjs';
import { run, waitFor } from './shell.mjs';
import { readNode, waitForNode, writeNode } from './xenstore.mjs';

// Generous: a build on the same machine makes the emulation several times slower.
const CREATE_MS = 180_000;
/** Of the emulation, as a guest boots: the busier the machine, the likelier. */
const DEATHS_MAX = 4;
const UP_MS = 240_000;
const JOB_MS = 300_000;
const LOAD_MS = 120_000;
const LOOK_MS = 3000;

/**
 * @typedef {object} GuestOptions
 * @property {Record<string, DiskSpec | import('./targets.mjs').Target>} [disks] by vdev: "xvda"
 * @property {number} [vcpus]
 * @property {'pv' | 'pvh' | 'hvm'} [type]
 * @property {string[]} [boot] lines of its configuration: what it boots, if not the rig's kernel
 * @property {string} [arguments] further ones of the rig's kernel
 * @property {string[]} [more] further lines of its configuration
 * @property {number} [memoryMib]
 * @property {Record<string, number> | 'none'} [blkfront] module parameters; 'none': not loaded
 * @property {'restart' | 'destroy'} [onReboot] default: restart
 * @property {boolean} [nativeTsc] it reads the time-stamp counter by itself, as on any CPU whose
 *   counter is invariant; this emulation's is not, and Xen would emulate each of a PV guest's reads
 *
 * @typedef {object} DiskSpec
 * @property {import('./targets.mjs').Target} target
 * @property {boolean} [readOnly]
 * @property {string} [script] libxl's hotplug script; default: ours
 * @property {'tap' | 'phy' | 'qdisk'} [backend] who serves it; default: tap, which is ringdisk
 * @property {string} [domain] the name of the driver domain that serves it; default: dom0
 */

/**
 * @param {string} vdev
 * @param {DiskSpec | import('./targets.mjs').Target} disk
 * @returns {string} xl's disk specification; target= must come last: it takes the rest of the line
 */
export function diskLine(vdev, disk) {
  const {
    target,
    readOnly = false,
    backend = 'tap',
    domain,
    script = backend === 'tap' && !domain ? BLOCK_SCRIPT : undefined,
  } = 'target' in disk ? disk : { target: disk };
  const access = readOnly ? 'ro' : 'rw';
  const settings = [`vdev=${vdev}`, 'format=raw', `backendtype=${backend}`];
  if (domain) settings.push(`backend=${domain}`);
  if (script) settings.push(`script=${script}`);
  return [...settings, `access=${access}`, `target=${target.spec}`].join(',');
}

/** @param {string} vdev "xvdb" */
export function devid(vdev) {
  return (202 << 8) + 16 * (vdev.charCodeAt(3) - 'a'.charCodeAt(0));
}

/** @param {GuestOptions} options @returns {string[]} the kernel that dom0 runs, too */
function rigKernel({ blkfront, arguments: more = '' }) {
  return [
    'kernel = "/rig/guest.vmlinux"',
    'ramdisk = "/run/rig/guest.img"',
    `extra = "${kernelArguments('hvc0', blkfront)} ${more}"`,
  ];
}

/**
 * @param {string} console
 * @param {GuestOptions['blkfront']} [blkfront]
 * @returns {string} what every kernel that runs image/guest_init is told
 */
export function kernelArguments(console, blkfront = {}) {
  const parameters =
    blkfront === 'none'
      ? [blkfront]
      : Object.entries(blkfront).map(([key, value]) => `${key}=${value}`);
  return `console=${console} mitigations=off loglevel=5 rig.blkfront=${parameters.join(',')}`;
}

/** @param {string} name of a guest */
function logOf(name) {
  return `/host/logs/guest-${name}.log`;
}

/**
 * Whether Xen ended it before any of its disks was connected. Nothing of ours can have done that;
 * the emulated CPU's nested virtualisation does, to guests with virtualised paging, in many ways.
 * @param {unknown} error of `Guest.created`
 * @param {GuestOptions} options
 */
async function diedBeforeItsDisks(error, { type = 'pv' }) {
  const domid = /domain\/(\d+)\/name is gone$/.exec(String(error))?.[1];
  if (type === 'pv' || domid === undefined) return false;
  const log = await readFile(LOG, 'utf8');
  const ofItsDisks = log.split('\n').filter((line) => line.includes(`"vbd":"vbd3/${domid}/`));
  if (ofItsDisks.some((line) => line.includes('"msg":"connected"'))) return false;
  note((await run('xl', ['dmesg'])).split('\n').slice(-12).join('\n'));
  return ofItsDisks.length > 0;
}

export class Guest {
  /** Guests that may still run. @type {Set<Guest>} */
  static all = new Set();
  #jobs = 0;
  /** Where in its log the kernel begins that runs now. */
  #logFrom = 0;

  /** @param {string} name @param {number} domid */
  constructor(name, domid) {
    this.name = name;
    this.domid = domid;
  }

  get log() {
    return logOf(this.name);
  }

  /**
   * Creates a guest and waits until it takes jobs.
   * @param {string} name unique in the whole run
   * @param {GuestOptions} [options]
   */
  static async create(name, options = {}) {
    for (let deaths = 0; ; deaths++) {
      const logFrom = await stat(logOf(name)).then(
        ({ size }) => size,
        () => 0,
      );
      await Guest.startCreation(name, options);
      try {
        return await Guest.created(name, { logFrom });
      } catch (error) {
        const log = (await readFile(logOf(name))).subarray(logFrom).toString();
        const excused = STRAY_BREAKPOINT.test(log) || (await diedBeforeItsDisks(error, options));
        if (deaths === DEATHS_MAX || !excused) throw error;
      }
      note(`${name}: its kernel died of the emulation while it booted; once more`);
    }
  }

  /**
   * `xl create` alone: ends when libxl has seen every disk's backend come up.
   * @param {string} name
   * @param {GuestOptions} options
   */
  static async startCreation(name, options) {
    const { disks = {}, vcpus = 2, type = 'pv', memoryMib = 256, more = [] } = options;
    const config = [
      `name = "${name}"`,
      `type = "${type}"`,
      ...(options.boot ?? rigKernel(options)),
      `memory = ${memoryMib}`,
      `vcpus = ${vcpus}`,
      // What the emulated CPU has wrong under nested virtualisation: Xen can't emulate the one, and
      // the guest's kernel distrusts the sizes of the other.
      ...(type === 'pv' ? [] : ['cpuid = "host,rdtscp=0,xsave=0"']),
      ...(type !== 'pv' || options.nativeTsc ? ['tsc_mode = "native"'] : []),
      `on_reboot = "${options.onReboot ?? 'restart'}"`,
      ...more,
      `disk = [${Object.entries(disks).map(([vdev, disk]) => `'${diskLine(vdev, disk)}'`)}]`,
    ];
    await writeFile(`/run/rig/${name}.cfg`, `${config.join('\n')}\n`);
    await run('xl', ['create', `/run/rig/${name}.cfg`], { timeoutMs: CREATE_MS });
  }

  /**
   * @param {string} name of a guest that xl has created
   * @param {{ upMs?: number, logFrom?: number }} [options] how long its start may take; where in
   *   its log it begins
   */
  static async created(name, { upMs = UP_MS, logFrom = 0 } = {}) {
    const guest = new Guest(name, Number(await run('xl', ['domid', name])));
    guest.#logFrom = logFrom;
    Guest.all.add(guest);
    await guest.#waitUntilUp(upMs);
    return guest;
  }

  /**
   * Runs shell text in the guest (`set -e` holds) and waits for its end.
   * @param {string} script at most 4000 bytes
   * @param {{ timeoutMs?: number }} [options]
   * @returns {Promise<string[]>} the lines it printed; rejects unless it ends with status 0
   */
  async run(script, options) {
    return (await this.start(script, options)).ended;
  }

  /**
   * Starts shell text in the guest.
   * @param {string} script
   * @param {{ timeoutMs?: number }} [options]
   * @returns {Promise<{ ended: Promise<string[]>, number: number }>} await `ended`, sooner or later
   */
  async start(script, { timeoutMs = JOB_MS } = {}) {
    this.#jobs += 1;
    const number = this.#jobs;
    await writeNode(this.#node(`job/${number}`), script);
    const ended = this.#end(number, timeoutMs);
    // Whoever started it may look at it late, or never when something else failed first.
    ended.catch(() => {});
    return { ended, number };
  }

  /**
   * A job's end in the domain that this guest is now: before a move it was another one, and a job
   * ends with its domain.
   * @param {{ number: number }} job
   * @param {{ timeoutMs?: number }} [options]
   */
  endOf({ number }, { timeoutMs = JOB_MS } = {}) {
    return this.#end(number, timeoutMs);
  }

  /** After a restore or a migration the guest goes on as another domain. */
  async follow() {
    this.domid = Number(await run('xl', ['domid', this.name]));
  }

  /**
   * @param {string} vdev
   * @param {DiskSpec | import('./targets.mjs').Target} disk
   */
  async attach(vdev, disk) {
    await run('xl', ['block-attach', this.name, diskLine(vdev, disk)]);
  }

  /** @param {string} vdev */
  async detach(vdev) {
    await run('xl', ['block-detach', this.name, vdev]);
  }

  /**
   * Lets another kernel start in its domain, and waits until that takes jobs.
   * @param {string} go shell text that starts it
   * @param {number} upMs
   */
  async startOver(go, upMs) {
    await this.start(`sleep 20; ${go}`);
    // Jobs are read in order: it has that one, too.
    await this.run(':');
    // What comes counts its jobs from 1, and must not find these.
    for (const name of ['job', 'status', 'up']) {
      await run('xenstore-rm', [this.#node(name)]).catch(() => {});
    }
    this.#jobs = 0;
    this.#logFrom = (await stat(this.log)).size;
    await this.#waitUntilUp(upMs, true);
  }

  /** Reboots from inside and waits until the new domain takes jobs. */
  async reboot() {
    const before = this.domid;
    // Its jobs are counted anew.
    this.#logFrom = (await stat(this.log)).size;
    await this.start('sync; reboot -f');
    this.domid = await this.#replaced(before);
    this.#jobs = 0;
    await this.#waitUntilUp();
  }

  /** `xl destroy`: the guest gets no chance to say anything. */
  async destroy() {
    Guest.all.delete(this);
    await run('xl', ['destroy', this.name]);
  }

  /** @param {string} vdev @returns {string} the disk's name in ringdisk's commands */
  vbd(vdev) {
    return `${this.domid}/${devid(vdev)}`;
  }

  /**
   * @param {string} vdev
   * @returns {Promise<any>} the disk's entry in the statistics; undefined: it is not connected
   */
  async stats(vdev) {
    const { vbds } = await quickStats();
    return vbds.find((/** @type {any} */ { name }) => name.endsWith(this.vbd(vdev)));
  }

  /** @param {string[]} vdevs whose load must be on its way before something is done to them */
  async waitForLoad(vdevs) {
    const isBusy = async () => {
      const all = await Promise.all(vdevs.map((vdev) => this.stats(vdev)));
      return all.every((stats) => stats?.counters.writes > 100);
    };
    await waitFor('the load', isBusy, { timeoutMs: LOAD_MS, everyMs: 500 });
  }

  /** @param {string} vdev @returns {Promise<string | undefined>} XenbusState, as its digit */
  backendState(vdev) {
    return readNode(`/local/domain/0/backend/vbd3/${this.vbd(vdev)}/state`);
  }

  /** @param {number} before @returns {Promise<number>} the next domain of this name */
  async #replaced(before) {
    const deadline = Date.now() + UP_MS;
    while (Date.now() < deadline) {
      const domid = Number(await run('xl', ['domid', this.name]).catch(() => before));
      if (domid !== before) return domid;
    }
    throw new Error(`${this.name} did not come back from its reboot`);
  }

  /** @param {number} [upMs] @param {boolean} [mayGo] its domain is made anew meanwhile */
  async #waitUntilUp(upMs = UP_MS, mayGo = false) {
    const anchor = mayGo ? undefined : `/local/domain/${this.domid}/name`;
    const up = waitForNode(this.#node('up'), (value) => value === '1', upMs, anchor);
    up.catch(() => {});
    const over = new AbortController();
    try {
      await Promise.race([up, this.#diesOfTheEmulation(over.signal)]);
    } catch (error) {
      // One that is gone is not to be destroyed at the end.
      if (/ is gone$/.test(String(error))) Guest.all.delete(this);
      throw error;
    } finally {
      over.abort();
    }
  }

  /**
   * Rejects when its kernel has: the domain stays, and says nothing any more.
   * @param {AbortSignal} over
   */
  async #diesOfTheEmulation(over) {
    while (!over.aborted) {
      await sleep(LOOK_MS, undefined, { signal: over }).catch(() => {});
      const text = await readFile(this.log).catch(() => Buffer.alloc(0));
      if (!STRAY_BREAKPOINT.test(text.subarray(this.#logFrom).toString())) continue;
      Guest.all.delete(this);
      await run('xl', ['destroy', this.name]).catch(() => {});
      throw new Error(`${this.name}: its kernel died of the emulation`);
    }
  }

  /** @param {number} number @param {number} timeoutMs */
  async #end(number, timeoutMs) {
    const name = `/local/domain/${this.domid}/name`;
    const status = await waitForNode(this.#node(`status/${number}`), Boolean, timeoutMs, name);
    const lines = await this.#lines(number);
    if (status === '0') return lines;
    throw new Error(`in the guest, exit ${status}: ${lines.slice(-6).join(' | ')}`);
  }

  /** @param {number} number */
  async #lines(number) {
    const text = (await readFile(this.log)).subarray(this.#logFrom).toString().split(/\r?\n/);
    const mark = `[${number}] `;
    return text.filter((line) => line.startsWith(mark)).map((line) => line.slice(mark.length));
  }

  /** @param {string} name */
  #node(name) {
    return `/local/domain/${this.domid}/data/rig/${name}`;
  }
}
