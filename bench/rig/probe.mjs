// SPDX-License-Identifier: Apache-2.0
// What a run costs, as told by cpu_probe.py at its begin and end, and by ringdisk's own counters.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { quickStats } from '../../test/rig/dom0/daemon.mjs';
import { waitFor } from '../../test/rig/dom0/shell.mjs';

const PROGRAM = fileURLToPath(new URL('cpu_probe.py', import.meta.url));
const MARK_MS = 60_000;

/** @typedef {{ mark: string, first: number[], last: number[],
 *   processes: Record<string, number> }} Moment */

export class CpuProbe {
  /** @type {Map<string, Moment>} */
  #moments = new Map();
  #child;

  /** @param {number} domid */
  constructor(domid) {
    this.#child = spawn('python3', [PROGRAM, String(domid)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    createInterface({ input: this.#child.stdout }).on('line', (line) => {
      const moment = JSON.parse(line);
      this.#moments.set(moment.mark, moment);
    });
  }

  close() {
    this.#child.kill();
  }

  /**
   * @param {string} begin @param {string} end marks
   * @returns {Promise<{ dom0: number, domu: number, processes: Record<string, number> }>} ns
   */
  async between(begin, end) {
    const a = await this.#moment(begin);
    const b = await this.#moment(end);
    /** @type {Record<string, number>} */
    const processes = {};
    for (const [process, used] of Object.entries(b.processes)) {
      const grown = used - (a.processes[process] ?? 0);
      if (grown > 0) processes[process] = grown;
    }
    const [dom0 = 0, domu = 0] = b.first.map((ns, index) => ns - (a.last[index] ?? 0));
    return { dom0, domu, processes };
  }

  /** @param {string} mark @returns {Promise<Moment>} */
  #moment(mark) {
    const look = () => {
      if (this.#child.exitCode !== null) throw new Error('cpu_probe.py ended');
      return this.#moments.get(mark);
    };
    return waitFor(`the mark ${mark}`, look, { timeoutMs: MARK_MS });
  }
}

/** @returns {Promise<Record<string, number>>} of all VBDs and reactors, summed by name */
export async function counters() {
  const { engine, vbds } = await quickStats();
  /** @type {Record<string, number>} */
  const sums = {};
  for (const group of [...engine.reactors, ...vbds.map((vbd) => vbd.counters)]) {
    for (const [name, value] of Object.entries(group)) sums[name] = (sums[name] ?? 0) + value;
  }
  return sums;
}
