// SPDX-License-Identifier: Apache-2.0
// Every test that needs no Xen: the native ones, plain and under the sanitizers, the simulation of
// crashes, the fuzzers' corpora, then vitest's.
// Ends with a table and one line, "N passed, N failed", which sums them all.
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { run, step } from '../src/setup/steps.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
/** What the simulation takes is built beside the tests; with the addon, for crash_loop.test.ts. */
const PLAIN = {
  name: 'native',
  sanitize: '',
  besides: [
    'RINGDISK_KILL_POINTS=ON',
    'RINGDISK_ADDON=ON',
    `CMAKE_LIBRARY_OUTPUT_DIRECTORY=${path.join(ROOT, 'out/native/build/Release')}`,
  ],
};
/** The fuzzers are built beside the tests under the same sanitizers: most of it is the same. */
const ASAN = {
  name: 'native asan+ubsan',
  sanitize: 'address,undefined',
  besides: ['RINGDISK_FUZZ=ON', 'RINGDISK_KILL_POINTS=ON'],
};
const NATIVE_BUILDS = [PLAIN, ASAN, { name: 'native tsan', sanitize: 'thread', besides: [] }];

const FUZZERS = ['validate', 'nbd', 'nbd_server', 'queue', 'recover'];
/** Bugs of mirrors, each of which the simulation of mirrors must notice. */
const MIRROR_BUGS = ['late', 'race', 'flush', 'ready', 'failed', 'memory', 'holes'];
/** About 2000 kills; the planted bugs are those of native/ that say RD_PLANTED. */
const SIMULATION = { seed: 1, runs: 50, planted: ['duplicate', 'lost', 'torn', 'unmarked'] };

async function main() {
  process.chdir(ROOT);
  mkdirSync('out', { recursive: true });
  const tiers = [];
  for (const build of NATIVE_BUILDS) tiers.push(await nativeTier(build));
  tiers.push(await simulationTier(), await mirrorTier(), await fuzzTier());
  tiers.push(...(await vitestTiers()));
  printTable(tiers);
  const [passed, failed] = [sum(tiers, 'passed'), sum(tiers, 'failed')];
  console.log(`${passed} passed, ${failed} failed`);
  process.exitCode = failed === 0 && passed > 0 ? 0 : 1;
}

async function nativeTier({ name, sanitize, besides }) {
  const definitions = ['RINGDISK_TESTS=ON', `RINGDISK_SANITIZE=${sanitize}`, ...besides];
  return timedTier(name, async () => {
    const folder = folderOf(name);
    const built = await buildNative(name, folder, definitions);
    return built ? runNativeTests(name, folder) : oneFailure();
  });
}

/** Thousands of deaths at every step of recovery; then bugs planted on purpose must be noticed. */
async function simulationTier() {
  const name = 'simulation';
  return timedTier(name, async () => {
    const folder = folderOf(PLAIN.name);
    const sim = `${folder}/recovery_sim`;
    const runs = ['--seed', String(SIMULATION.seed), '--runs', String(SIMULATION.runs)];
    const results = [await step(`${name}: run`, sim, [...runs, '--all-points'])];
    for (const bug of SIMULATION.planted) {
      const env = { ...process.env, RINGDISK_PLANT: bug };
      results.push(
        await stepThatFails(`${name}: planted: ${bug}`, /^FAILED: /m, sim, ['--runs', '40'], env),
      );
    }
    return countSteps(results);
  });
}

/** With the build of the sanitizers, which can have bugs planted. */
async function mirrorTier() {
  const name = 'planted in mirrors';
  return timedTier(name, async () => {
    const results = [];
    const program = `${folderOf(ASAN.name)}/native_tests`;
    const args = ['--no-colors', '-tc=mirror: whoever*'];
    for (const bug of MIRROR_BUGS) {
      const env = { ...process.env, RINGDISK_PLANT: `mirror-${bug}` };
      const how = /FATAL ERROR: REQUIRE|ERROR: AddressSanitizer/;
      results.push(await stepThatFails(`${name}: ${bug}`, how, program, args, env));
    }
    return countSteps(results);
  });
}

/** The inputs of all fuzzers, without the fuzzer and under the sanitizers. */
async function fuzzTier() {
  const name = 'fuzz corpora';
  const folder = folderOf(ASAN.name);
  return timedTier(name, async () => {
    const results = [];
    for (const fuzzer of FUZZERS) {
      const [program, corpus] = [`${folder}/fuzz_${fuzzer}`, `test/fuzz/corpus/${fuzzer}`];
      results.push(await step(`${name}: ${fuzzer}`, program, [corpus]));
      const env = { ...process.env, RINGDISK_PLANT: 'capacity' };
      const planted = `${name}: ${fuzzer}, planted`;
      results.push(await stepThatFails(planted, /^fuzz: not so: /m, program, [corpus], env));
    }
    return countSteps(results);
  });
}

/** @param {string} name of a tier */
function folderOf(name) {
  return `out/${name.replaceAll(/\W+/g, '-')}`;
}

async function timedTier(name, count) {
  const started = performance.now();
  const counts = await count();
  return { name, reasons: {}, ...counts, seconds: (performance.now() - started) / 1000 };
}

/** Prints what it did when it did not fail as `how` says: a test that can't fail proves nothing. */
async function stepThatFails(name, how, command, args, env) {
  const { ok, output, seconds } = await run(command, args, { env });
  const caught = !ok && how.test(output);
  const mark = caught ? 'caught' : 'MISSED';
  console.log(`  ${name.padEnd(32)} ${mark} ${seconds.toFixed(1).padStart(6)} s`);
  if (!caught) console.log(output);
  return { ok: caught, output };
}

/** Where there is no io_uring these programs say so, and nothing is proved. */
function countSteps(results) {
  const skipped = results.filter(({ output }) => output.startsWith('skipped:')).length;
  if (skipped > 0) {
    return { passed: 0, failed: 0, skipped: results.length, reasons: { 'no io_uring': skipped } };
  }
  const passed = results.filter(({ ok }) => ok).length;
  return { passed, failed: results.length - passed, skipped: 0 };
}

async function buildNative(name, folder, definitions) {
  const always = ['RINGDISK_ADDON=OFF', 'CMAKE_BUILD_TYPE=Release'];
  const flags = [...always, ...definitions].map((flag) => `-D${flag}`);
  const configure = ['-S', '.', '-B', folder, '-G', 'Ninja', ...flags];
  const configured = await step(`${name}: configure`, 'cmake', configure);
  if (!configured.ok) return false;
  return (await step(`${name}: build`, 'cmake', ['--build', folder])).ok;
}

async function runNativeTests(name, folder) {
  const env = {
    ...process.env,
    UBSAN_OPTIONS: 'print_stacktrace=1',
    TSAN_OPTIONS: 'second_deadlock_stack=1',
  };
  const program = `${folder}/native_tests`;
  const { output } = await run(program, ['--no-colors', '--count']);
  const count = Number(/current filters: (\d+)/.exec(output)?.[1]);
  // Much of what they do is to wait, so two processes take half the time.
  const middle = Math.floor(count / 2);
  const halves = await Promise.all(
    [`--last=${middle}`, `--first=${middle + 1}`].map((range, i) =>
      step(`${name}: run, half ${i + 1}`, program, ['--no-colors', range], { env }),
    ),
  );
  const failed = halves.map(nativeFailures).reduce((one, other) => one + other);
  return { passed: Math.max(count - failed, 0) || 0, failed, skipped: 0 };
}

/** Its summary counts the other half's as passed. */
function nativeFailures({ ok, output }) {
  const match = /test cases:\s*\d+\s*\|\s*\d+ passed\s*\|\s*(\d+) failed/.exec(output);
  // A crash, or a sanitizer's report at exit, prints no summary or one that knows nothing of it.
  return ok && match ? Number(match[1]) : Math.max(Number(match?.[1] ?? 0), 1);
}

function sum(tiers, what) {
  return tiers.reduce((total, tier) => total + tier[what], 0);
}

async function vitestTiers() {
  const report = path.join(ROOT, 'out/vitest-tiers.json');
  rmSync(report, { force: true });
  const local = createRequire(import.meta.url);
  const vitest = path.join(path.dirname(local.resolve('vitest/package.json')), 'vitest.mjs');
  const reporters = ['--reporter=dot', '--reporter=./test/support/tier_reporter.mjs'];
  const args = [vitest, 'run', '--config', 'test/vitest.config.ts', ...reporters];
  const env = { ...process.env, NO_COLOR: '1', RINGDISK_TIER_REPORT: report };
  const result = await step('vitest', process.execPath, args, { env });
  const tiers = Object.entries(readReport(report)).map(([name, tier]) => ({ name, ...tier }));
  const failed = tiers.some((tier) => tier.failed > 0);
  if (!result.ok && !failed) {
    tiers.push({ name: 'vitest', ...oneFailure(), reasons: {}, seconds: result.seconds });
  }
  return tiers;
}

function readReport(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return {}; // vitest died before its end: its exit status says so
  }
}

function oneFailure() {
  return { passed: 0, failed: 1, skipped: 0 };
}

function printTable(tiers) {
  const cell = (value) => String(value).padStart(8);
  console.log(
    `\n  ${'tier'.padEnd(20)}${['passed', 'failed', 'skipped', 'seconds'].map(cell).join('')}`,
  );
  for (const { name, passed, failed, skipped, seconds, reasons } of tiers) {
    const numbers = [passed, failed, skipped, seconds.toFixed(1)].map(cell).join('');
    console.log(`  ${name.padEnd(20)}${numbers}`);
    for (const [reason, count] of Object.entries(reasons)) {
      console.log(`    skipped ${count}: ${reason}`);
    }
  }
  console.log('');
}

await main();
