// SPDX-License-Identifier: Apache-2.0
// Runs the tests of this folder on the machine's ZFS, one after the other, and appends what happens
// to /host/results.jsonl, which run.mjs on the host follows.
import { appendFileSync, readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { cleanUp } from './pool.mjs';
import { within } from './shell.mjs';

const TEST_MS = 900_000;
const HERE = fileURLToPath(new URL('.', import.meta.url));

/** @param {Record<string, unknown>} event */
function report(event) {
  appendFileSync('/host/results.jsonl', `${JSON.stringify(event)}\n`);
}

/** @param {string} name @param {() => Promise<unknown>} body */
async function judge(name, body) {
  const started = Date.now();
  let reason;
  try {
    await within(name, body(), TEST_MS);
    await cleanUp();
  } catch (error) {
    reason = error instanceof Error ? (error.stack ?? error.message) : String(error);
    await cleanUp().catch((left) => {
      reason = `${reason}\nand then: ${left.message}`;
    });
  }
  const seconds = (Date.now() - started) / 1000;
  report({ event: 'test', name, ok: reason === undefined, seconds, reason, evidence: [] });
}

const { only } = JSON.parse(readFileSync('/host/plan.json', 'utf8'));
const pattern = new RegExp(only, 'i');
for (const file of readdirSync(HERE).sort()) {
  if (!/^\d\d_.*\.mjs$/.test(file)) continue;
  const { subject, tests } = await import(`./${file}`);
  for (const [name, body] of Object.entries(tests)) {
    const full = `${subject}: ${name}`;
    if (pattern.test(full)) await judge(full, body);
  }
}
report({ event: 'end' });
process.exit();
