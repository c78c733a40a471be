// SPDX-License-Identifier: Apache-2.0
// What the driver tells the host, line by line: /host/results.jsonl, which run.mjs follows.
import { appendFileSync } from 'node:fs';

const RESULTS = '/host/results.jsonl';

/** @param {Record<string, unknown>} event */
export function report(event) {
  appendFileSync(RESULTS, `${JSON.stringify(event)}\n`);
}

/**
 * A figure that a test took, printed below it: what is measured here is said, not judged.
 * @param {string} text
 */
export function note(text) {
  report({ event: 'note', text });
}
