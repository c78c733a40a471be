// SPDX-License-Identifier: Apache-2.0
// `npm run fuzz [seconds]`: builds the fuzzers with clang, sees that each finds a planted bug from
// nothing, then lets each look for real ones (60 s unless told), starting from the corpus. What
// it learns stays in out/fuzz_corpus for the next time.
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { run, step } from '../../src/setup/steps.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const FOLDER = 'out/fuzz';
/** With how long an input may grow, in bytes, and how long the planted bug may take, in seconds. */
const FUZZERS = [
  { name: 'validate', bytesMax: 2400, patience: 30 },
  { name: 'nbd', bytesMax: 4096, patience: 120 },
  { name: 'nbd_server', bytesMax: 1024, patience: 60 },
  { name: 'queue', bytesMax: 4096, patience: 60 },
  { name: 'recover', bytesMax: 6144, patience: 120 },
];

async function main(seconds) {
  process.chdir(ROOT);
  mkdirSync('out', { recursive: true });
  let ok = await build();
  for (const fuzzer of FUZZERS) ok = ok && (await findsPlantedBug(fuzzer));
  for (const fuzzer of FUZZERS) ok = ok && (await fuzz(fuzzer, seconds));
  process.exitCode = ok ? 0 : 1;
}

async function build() {
  const definitions = [
    'CMAKE_CXX_COMPILER=clang++-19',
    'CMAKE_BUILD_TYPE=Release',
    'RINGDISK_ADDON=OFF',
    'RINGDISK_FUZZ=ON',
    'RINGDISK_KILL_POINTS=ON',
    'RINGDISK_SANITIZE=address,undefined',
  ];
  const flags = definitions.map((definition) => `-D${definition}`);
  const configure = ['-S', '.', '-B', FOLDER, '-G', 'Ninja', ...flags];
  if (!(await step('configure', 'cmake', configure)).ok) return false;
  return (await step('build', 'cmake', ['--build', FOLDER])).ok;
}

async function findsPlantedBug({ name, bytesMax, patience }) {
  const scratch = mkdtempSync(path.join(os.tmpdir(), 'ringdisk-fuzz-'));
  const env = { ...process.env, RINGDISK_PLANT: 'capacity' };
  const args = [`-max_len=${bytesMax}`, '-len_control=0', `-max_total_time=${patience}`];
  const found = await run(
    `${FOLDER}/fuzz_${name}`,
    [scratch, ...args, `-artifact_prefix=${scratch}/`],
    { env },
  );
  rmSync(scratch, { recursive: true });
  const mark = found.ok ? 'MISSED' : `found in ${found.seconds.toFixed(1)} s`;
  console.log(`  ${`${name}: planted bug`.padEnd(32)} ${mark}`);
  return !found.ok;
}

async function fuzz({ name, bytesMax }, seconds) {
  const args = [`-max_len=${bytesMax}`, '-len_control=0', `-max_total_time=${seconds}`];
  const kept = ['-artifact_prefix=out/', '-timeout=30'];
  const learnt = `out/fuzz_corpus/${name}`;
  mkdirSync(learnt, { recursive: true });
  const folders = [learnt, `test/fuzz/corpus/${name}`];
  return (await step(`${name}: fuzz`, `${FOLDER}/fuzz_${name}`, [...folders, ...args, ...kept])).ok;
}

await main(Number(process.argv[2] ?? 60));
