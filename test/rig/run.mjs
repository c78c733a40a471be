#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// Tests ringdisk on real Xen: boots the rig once, runs the scenarios in it and says what passed.
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { choose, loadScenarios } from './dom0/catalogue.mjs';
import { Follower } from './host/follow.mjs';
import { boot, buildImage, fetchKernels, obstacle } from './host/machine.mjs';
import { stage, stageTests } from './host/stage.mjs';

const HELP = `usage: node test/rig/run.mjs [--full] [--only PATTERN] [--list] [--keep]
                             [--share DIR] [--limit S]

  --full          all tests, not only those of the quick tier
  --only PATTERN  only tests whose name matches this regular expression (case ignored),
                  of whichever tier
  --list          print the tests' names and end; those of the full tier are marked
  --keep          keep the shared folder (logs, disk images) even when all tests pass
  --share DIR     use this folder as the shared one (default: a new one; kept on failure)
  --limit S       end the rig after so many seconds (default 3600, with --full 10800)

Environment: RINGDISK_RIG_DIR (image cache, default ~/.cache/ringdisk-rig), RIG_MIRROR.
See test/rig/README.md.`;

/**
 * @param {string} image
 * @param {string} share
 * @param {string} limit seconds
 * @returns {Promise<import('./host/follow.mjs').Tally>}
 */
async function bootAndFollow(image, share, limit) {
  const results = join(share, 'results.jsonl');
  rmSync(results, { force: true });
  writeFileSync(join(share, 'dom0_job'), 'exec node /host/test/rig/dom0/main.mjs\n');
  const follower = new Follower(results);
  const code = await boot(image, share, { limit, whileRunning: () => follower.poll() });
  if (code !== 0 || !follower.tally.ended) {
    follower.tally.failed += 1;
    console.log(`FAIL the rig ends well: exit ${code}; see ${share}/logs/console.log`);
  }
  return follower.tally;
}

/** @returns {Promise<number>} exit status */
async function main() {
  const { values } = parseArgs({
    options: {
      full: { type: 'boolean' },
      only: { type: 'string' },
      list: { type: 'boolean', default: false },
      keep: { type: 'boolean', default: false },
      share: { type: 'string' },
      limit: { type: 'string' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) return say(HELP, 0);
  const scenarios = await loadScenarios();
  if (values.list) return say(listed(scenarios, values.only), 0);
  const chosen = choose(scenarios, values);
  if (Object.keys(chosen).length === 0) return say(`no test matches ${values.only}`, 2);
  const why = obstacle();
  if (why) return say(`the rig can't run here: ${why}`, 2);

  const isNeeded = (/** @type {string} */ what) =>
    scenarios.some(({ name, needs }) => needs === what && chosen[name]);
  const image = buildImage({ zfs: isNeeded('zfs') });
  const share = resolve(values.share ?? mkdtempSync(join(tmpdir(), 'ringdisk-rig-')));
  mkdirSync(share, { recursive: true });
  rmSync(join(share, 'logs'), { recursive: true, force: true });
  stage(share, ['test/rig/scenarios']);
  stageTests(share);
  if (isNeeded('kernels')) {
    cpSync(fetchKernels(), join(share, 'kernels'), { recursive: true });
  }
  writeFileSync(join(share, 'plan.json'), JSON.stringify({ chosen }));
  const started = Date.now();
  const limit = values.limit ?? (values.full ? '10800' : '3600');
  const { passed, failed } = await bootAndFollow(image, share, limit);
  const kept = failed > 0 || values.keep || values.share !== undefined;
  if (kept) console.log(`logs: ${share}/logs`);
  else rmSync(share, { recursive: true, force: true });
  console.log(`the rig took ${((Date.now() - started) / 1000).toFixed(0)} s`);
  return say(`${passed} passed, ${failed} failed`, failed > 0 ? 1 : 0);
}

/**
 * @param {import('./dom0/catalogue.mjs').Scenario[]} scenarios
 * @param {string} [only]
 * @returns {string} a line per test
 */
function listed(scenarios, only) {
  const all = choose(scenarios, { only, full: true });
  const quick = choose(scenarios);
  const lines = Object.entries(all).flatMap(([scenario, tests]) =>
    tests.map((test) => {
      const isQuick = quick[scenario]?.includes(test);
      return `${scenario}: ${test}${isQuick ? '' : ' (full)'}`;
    }),
  );
  return lines.join('\n');
}

/** @param {string} text @param {number} status */
function say(text, status) {
  console.log(text);
  return status;
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(`rig: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 2;
}
