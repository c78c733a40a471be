// SPDX-License-Identifier: Apache-2.0
// The rig's driver in dom0: runs the chosen scenarios one after the other and appends what
// happens to /host/results.jsonl, which run.mjs on the host follows.
import { readFile } from 'node:fs/promises';
import { detailsOf, loadScenarios, NOTHING_LEFT, testName } from './catalogue.mjs';
import { Daemon } from './daemon.mjs';
import { Guest } from './guest.mjs';
import { report } from './report.mjs';
import { run, within } from './shell.mjs';
import { assertNothingIsLeft, evidence, Logs } from './verdict.mjs';

const TEST_MS = 420_000;
const PREPARE_MS = 420_000;

const logs = new Logs();
/** @type {import('./daemon.mjs').Footprint | undefined} */
let newborn;
let lastEvidence = '';

/**
 * Runs one test, judges the logs, reports.
 * @param {string} name
 * @param {() => Promise<unknown>} body
 * @param {{ tolerated?: RegExp, timeoutMs?: number }} [options]
 */
async function judge(name, body, { tolerated, timeoutMs = TEST_MS } = {}) {
  const started = Date.now();
  let reason;
  try {
    await within(name, body(), timeoutMs);
  } catch (error) {
    reason = error instanceof Error ? error.message : String(error);
  }
  const trouble = await logs.trouble(tolerated);
  if (trouble.length > 0) reason = [reason, ...trouble.slice(0, 5)].filter(Boolean).join('\n');
  const seconds = (Date.now() - started) / 1000;
  const ok = reason === undefined;
  report({ event: 'test', name, ok, seconds, reason, evidence: ok ? [] : await freshEvidence() });
}

/** What a failed preparation said need not be said again by each of its tests. */
async function freshEvidence() {
  const lines = await evidence();
  const text = lines.join('\n');
  if (text === lastEvidence) return ['(the logs are as above)'];
  lastEvidence = text;
  return lines;
}

/** @param {import('./catalogue.mjs').Scenario} scenario */
async function provideDaemon(scenario) {
  const wanted = scenario.daemon === 'none' ? undefined : JSON.stringify(scenario.daemon ?? {});
  const daemon = Daemon.current;
  if (daemon && !daemon.ended && daemon.label === wanted) return;
  if (daemon && !daemon.ended) await daemon.stop();
  newborn = undefined;
  if (wanted === undefined) return;
  newborn = await (await Daemon.start(JSON.parse(wanted))).footprint();
}

async function destroyGuests() {
  for (const guest of Guest.all) await guest.destroy().catch(() => {});
  const names = (await run('xl', ['list'])).trim().split('\n').slice(2);
  for (const line of names) {
    const domid = line.split(/\s+/).at(-5) ?? '';
    await run('xl', ['destroy', domid]).catch(() => {});
  }
}

/**
 * @param {import('./catalogue.mjs').Scenario} scenario
 * @param {string[]} chosen names of its tests
 */
async function runScenario(scenario, chosen) {
  report({ event: 'scenario', name: scenario.name });
  /** @type {unknown} */
  let context;
  /** @type {unknown} */
  let failure;
  try {
    await provideDaemon(scenario);
    context = await within(
      'its preparation',
      scenario.prepare?.() ?? Promise.resolve(),
      PREPARE_MS,
    );
  } catch (error) {
    failure = error;
  }
  for (const name of Object.keys(scenario.tests)) {
    if (!chosen.includes(name)) continue;
    const { run: test, timeoutMs } = detailsOf(scenario, name);
    const body = failure ? () => Promise.reject(failure) : () => test(context);
    await judge(testName(scenario, name), body, { ...scenario, timeoutMs });
  }
  await destroyGuests();
  const released = () => assertNothingIsLeft(newborn);
  if (chosen.includes(NOTHING_LEFT)) {
    await judge(testName(scenario, NOTHING_LEFT), released, scenario);
  }
}

async function main() {
  const { chosen } = JSON.parse(await readFile('/host/plan.json', 'utf8'));
  await logs.trouble();
  for (const scenario of await loadScenarios()) {
    const tests = chosen[scenario.name];
    if (tests) await runScenario(scenario, tests);
  }
  const last = Daemon.current;
  if (last && !last.ended) await judge('the daemon stops cleanly at the end', () => last.stop());
  report({ event: 'end' });
}

await main();
// What guests that are gone were still asked to do is waited for until its time limit.
process.exit();
