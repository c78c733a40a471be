// SPDX-License-Identifier: Apache-2.0
// Every test that needs no Xen: the native ones, plain and under the sanitizers, then vitest's.
// Ends with a table and one line, "N passed, N failed", which sums them all.
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { step } from '../src/setup/steps.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const NATIVE_BUILDS = [
  { name: 'native', sanitize: '' },
  { name: 'native asan+ubsan', sanitize: 'address,undefined' },
  { name: 'native tsan', sanitize: 'thread' },
];

async function main() {
  process.chdir(ROOT);
  mkdirSync('out', { recursive: true });
  const tiers = [];
  for (const build of NATIVE_BUILDS) tiers.push(await nativeTier(build));
  tiers.push(...(await vitestTiers()));
  printTable(tiers);
  const passed = tiers.reduce((sum, tier) => sum + tier.passed, 0);
  const failed = tiers.reduce((sum, tier) => sum + tier.failed, 0);
  console.log(`${passed} passed, ${failed} failed`);
  process.exitCode = failed === 0 && passed > 0 ? 0 : 1;
}

async function nativeTier({ name, sanitize }) {
  const started = performance.now();
  const folder = `out/${name.replaceAll(/\W+/g, '-')}`;
  const built = await buildNativeTests(name, folder, sanitize);
  const counts = built ? await runNativeTests(name, folder) : oneFailure();
  return { name, ...counts, reasons: {}, seconds: (performance.now() - started) / 1000 };
}

async function buildNativeTests(name, folder, sanitize) {
  const definitions = ['RINGDISK_TESTS=ON', 'RINGDISK_ADDON=OFF', 'CMAKE_BUILD_TYPE=Release'];
  const flags = [...definitions, `RINGDISK_SANITIZE=${sanitize}`].map((flag) => `-D${flag}`);
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
  const result = await step(`${name}: run`, `${folder}/native_tests`, ['--no-colors'], { env });
  const line = /test cases:\s*\d+\s*\|\s*(\d+) passed\s*\|\s*(\d+) failed\s*\|\s*(\d+) skipped/;
  const match = line.exec(result.output);
  // A crash, or a sanitizer's report at exit, prints no summary or one that knows nothing of it.
  if (!match) return oneFailure();
  const [passed, failed, skipped] = match.slice(1).map(Number);
  return { passed, failed: result.ok ? failed : Math.max(failed, 1), skipped };
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
