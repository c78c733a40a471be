// SPDX-License-Identifier: Apache-2.0
// A vitest reporter for test/run.mjs: writes what each tier did, with the reasons of skipped tests,
// to the file that RINGDISK_TIER_REPORT names.
import { writeFileSync } from 'node:fs';
import path from 'node:path';

/** test/unit/cli/table.test.ts is of the tier "unit"; test/tidy.test.ts of the tier "tidy". */
function tierOf(file) {
  const [first] = path.relative(path.resolve(import.meta.dirname, '..'), file).split(path.sep);
  return first.replace(/\.test\.ts$/, '');
}

function emptyTier() {
  return { passed: 0, failed: 0, skipped: 0, seconds: 0, reasons: {} };
}

function addTest(tier, test) {
  const { state, note } = test.result();
  if (state === 'passed') tier.passed += 1;
  else if (state === 'failed') tier.failed += 1;
  else {
    tier.skipped += 1;
    const reason = note ?? 'no reason given';
    tier.reasons[reason] = (tier.reasons[reason] ?? 0) + 1;
  }
}

function addModule(tiers, module) {
  const name = tierOf(module.moduleId);
  tiers[name] ??= emptyTier();
  const tier = tiers[name];
  for (const test of module.children.allTests()) addTest(tier, test);
  // A file that does not load, or a hook that throws, has no failed test to show for it.
  tier.failed += module.errors().length;
  for (const suite of module.children.allSuites()) tier.failed += suite.errors().length;
  tier.seconds += module.diagnostic().duration / 1000;
}

export default class TierReporter {
  onTestRunEnd(modules, unhandledErrors) {
    const tiers = {};
    for (const module of modules) addModule(tiers, module);
    if (unhandledErrors.length > 0) {
      tiers.unhandled = { ...emptyTier(), failed: unhandledErrors.length };
    }
    writeFileSync(process.env.RINGDISK_TIER_REPORT, JSON.stringify(tiers));
  }
}
