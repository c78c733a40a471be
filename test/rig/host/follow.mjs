// SPDX-License-Identifier: Apache-2.0
// Prints the results that the driver in dom0 appends to the shared folder, as they come.
import { existsSync, readFileSync } from 'node:fs';

/** @typedef {{ passed: number, failed: number, ended: boolean }} Tally */

/** The lines that another machine appends to a file of JSON lines. */
export class Tail {
  #read = 0;

  /** @param {string} path */
  constructor(path) {
    this.path = path;
  }

  /** @returns {Record<string, any>[]} what is new */
  next() {
    if (!existsSync(this.path)) return [];
    const text = readFileSync(this.path, 'utf8');
    const whole = text.slice(this.#read, text.lastIndexOf('\n') + 1);
    this.#read += whole.length;
    return whole
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line));
  }
}

export class Follower {
  #tail;
  /** @type {Tally} */
  tally = { passed: 0, failed: 0, ended: false };

  /** @param {string} path results.jsonl */
  constructor(path) {
    this.#tail = new Tail(path);
  }

  /** Prints what is new. */
  poll() {
    for (const event of this.#tail.next()) this.#show(event);
  }

  /** @param {Record<string, any>} event */
  #show(event) {
    if (event.event === 'end') this.tally.ended = true;
    if (event.event === 'note') console.log(`     ${event.text}`);
    if (event.event !== 'test') return;
    const seconds = `(${event.seconds.toFixed(1)} s)`;
    if (event.ok) {
      this.tally.passed += 1;
      console.log(`ok   ${event.name} ${seconds}`);
      return;
    }
    this.tally.failed += 1;
    console.log(`FAIL ${event.name} ${seconds} ${event.reason}`);
    for (const line of event.evidence) console.log(`     ${line}`);
  }
}
