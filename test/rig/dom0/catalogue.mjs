// SPDX-License-Identifier: Apache-2.0
// Which scenarios there are. Read on the host too (run.mjs --list), so importing a scenario must
// do nothing.
import { readdir } from 'node:fs/promises';

/**
 * A scenario is a daemon, some guests and tests that share them, run in order.
 * @typedef {object} Scenario
 * @property {string} name
 * @property {Record<string, unknown> | 'none'} [daemon] content of the daemon's configuration file
 *   (default {}); 'none': its tests start and stop their own
 * @property {() => Promise<any>} [prepare] creates what the tests share and get as their argument
 * @property {Record<string, Body | Details>} tests
 * @property {boolean} [full] all of its tests belong to the full tier: they run with --full only
 * @property {'kernels' | 'zfs'} [needs] what the host makes for it: image/kernels.sh, at
 *   /host/kernels; an image with ZFS's modules
 * @property {RegExp} [tolerated] lines in the logs of dom0, Xen and guests that these tests
 *   provoke on purpose
 *
 * @typedef {(shared: any) => Promise<unknown>} Body
 * @typedef {{ run: Body, full?: boolean, timeoutMs?: number }} Details
 */

/** The test that every scenario ends with. */
export const NOTHING_LEFT = 'nothing is left';

/** @returns {Promise<Scenario[]>} all, in the order of their files' names */
export async function loadScenarios() {
  const dir = new URL('../scenarios/', import.meta.url);
  const files = (await readdir(dir)).filter((name) => name.endsWith('.mjs')).sort();
  const modules = await Promise.all(files.map((name) => import(new URL(name, dir).href)));
  return modules.flatMap((module) => module.scenarios);
}

/** @param {Scenario} scenario @param {string} test */
export function testName(scenario, test) {
  return `${scenario.name}: ${test}`;
}

/** @param {Scenario} scenario @param {string} test @returns {boolean} whether it needs --full */
function isFull(scenario, test) {
  const entry = scenario.tests[test];
  return scenario.full === true || (typeof entry === 'object' && entry.full === true);
}

/** @param {Scenario} scenario @param {string} test @returns {Details} */
export function detailsOf(scenario, test) {
  const entry = scenario.tests[test];
  if (!entry) throw new Error(`${scenario.name} has no test ${test}`);
  return typeof entry === 'object' ? entry : { run: entry };
}

/**
 * @param {Scenario[]} scenarios
 * @param {{ only?: string, full?: boolean }} [wish] `only`: a regular expression over the names
 *   of all tests, since whoever names a test wants it; otherwise the quick ones, or with `full` all
 * @returns {Record<string, string[]>} chosen tests by scenario; a chosen scenario always ends with
 *   NOTHING_LEFT
 */
export function choose(scenarios, { only, full = only !== undefined } = {}) {
  const matches = new RegExp(only ?? '', 'i');
  /** @type {Record<string, string[]>} */
  const chosen = {};
  for (const scenario of scenarios) {
    const names = Object.keys(scenario.tests).filter(
      (name) => (full || !isFull(scenario, name)) && matches.test(testName(scenario, name)),
    );
    if (names.length > 0) chosen[scenario.name] = [...names, NOTHING_LEFT];
  }
  return chosen;
}
