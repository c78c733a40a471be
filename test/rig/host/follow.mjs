// SPDX-License-Identifier: Apache-2.0
// Prints the results that the driver in dom0 appends to the shared folder, as they come.
import { existsSync, readFileSync } from 'node:fs';

/** @typedef {{ passed: number, failed: number, ended: boolean }} Tally */

export class Follower {
  #read = 0;
  /** @type {Tally} */
  tally = { passed: 0, failed: 0, ended: false };

  /** @param {string} path results.jsonl */
  constructor(path) {
    this.path = path;
  }

  /** Prints what is new. */
  poll() {
    if (!existsSync(this.path)) return;
    const text = readFileSync(this.path, 'utf8');
    const whole = text.slice(this.#read, text.lastIndexOf('\n') + 1);
    this.#read += whole.length;
    for (const line of whole.split('\n')) if (line) this.#show(JSON.parse(line));
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
