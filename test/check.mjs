// SPDX-License-Identifier: Apache-2.0
// `npm run check`, the whole contract of a change: format, lint, types, then every test of run.mjs
// (the tidy tier is among them). Goes through all of it, and fails at the end if anything did.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { run, step } from '../src/setup/steps.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const local = createRequire(import.meta.url);
const bin = (name, file) => path.join(path.dirname(local.resolve(`${name}/package.json`)), file);

async function main() {
  process.chdir(ROOT);
  const { execPath } = process;
  const biome = bin('@biomejs/biome', 'bin/biome');
  const tsc = bin('typescript', 'bin/tsc');
  const steps = [
    () => step('TypeScript format and lint', execPath, [biome, 'ci', '--colors=off']),
    () => step('TypeScript types', execPath, [tsc, '-p', 'test/tsconfig.json']),
    async () =>
      step('C++ format', 'clang-format-19', ['--dry-run', '-Werror', ...(await cxxFiles())]),
    lintNative,
  ];
  let ok = true;
  for (const one of steps) ok = (await one()).ok && ok;
  // In this process: its closing line stays the last one.
  await import('./run.mjs');
  if (!ok) process.exitCode = 1;
}

async function cxxFiles() {
  const listed = await run('git', ['ls-files', '*.cc', '*.h']);
  return listed.output.split('\n').filter(Boolean);
}

/** clang-tidy over every native source, one process per core. */
async function lintNative() {
  const queue = readFileSync('native/sources.txt', 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('native/'));
  let ok = true;
  const worker = async () => {
    for (let file = queue.shift(); file; file = queue.shift()) {
      const result = await run('clang-tidy-19', ['-p', 'build', '--quiet', file]);
      if (!result.ok) console.log(`\n${file}\n${result.output}`);
      ok &&= result.ok;
    }
  };
  const started = performance.now();
  await Promise.all(Array.from({ length: os.availableParallelism() }, worker));
  const seconds = (performance.now() - started) / 1000;
  console.log(
    `  ${'C++ lint'.padEnd(32)} ${ok ? 'ok    ' : 'FAILED'} ${seconds.toFixed(1).padStart(6)} s`,
  );
  return { ok };
}

await main();
