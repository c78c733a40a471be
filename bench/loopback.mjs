#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// How fast the data path is without Xen, beside what this machine allows at best:
//   npm run bench -- [--rounds N] [--seconds S] ...
// Every measurement is a process of its own (bench/native), the peers of a case take turns.
import { availableParallelism, cpus, loadavg } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { CASES } from './loopback/cases.mjs';
import { controlPlane } from './loopback/control_plane.mjs';
import { countInstructions, instructionsTable } from './loopback/instructions.mjs';
import { buildBench, measureOnce } from './loopback/measure.mjs';
import { loopbackCharts, loopbackTables } from './loopback/tables.mjs';
import { openTargets } from './loopback/targets.mjs';
import { digits } from './report/figures.mjs';
import { writeReport } from './report/write.mjs';

const HELP = `usage: npm run bench -- [--rounds N] [--seconds S] [--only PATTERN] [--disk DIR]
         [--output DIR]

  --rounds N      default 7; every figure is their median. Many short ones beat few long ones
  --seconds S     of each measurement (default 0.3)
  --only PATTERN  only what matches this regular expression: cases by their names, "instructions"
                  (per I/O, by callgrind), "control plane"; all but instructions: '^(?!instr)'
  --disk DIR      a folder on the disk that the file target lies on (default: the output's)
  --output DIR    where the report goes (default bench/results)`;

const CONTROL_PLANE = 'control plane';
const INSTRUCTIONS = 'instructions';
const OPTIONS = {
  rounds: { type: 'string', default: '7' },
  seconds: { type: 'string', default: '0.3' },
  only: { type: 'string', default: '' },
  disk: { type: 'string' },
  output: { type: 'string', default: fileURLToPath(new URL('results', import.meta.url)) },
  help: { type: 'boolean', short: 'h', default: false },
};

async function main() {
  const { values } = parseArgs({ options: OPTIONS });
  if (values.help) return console.log(HELP);
  const output = path.resolve(values.output);
  const plan = {
    rounds: Number(values.rounds),
    seconds: Number(values.seconds),
    load: loadavg()[0].toFixed(1),
  };
  if (!(plan.rounds >= 1 && plan.seconds > 0)) throw new Error('rounds and seconds are numbers');
  await buildBench();
  const targets = openTargets(path.resolve(values.disk ?? output));
  const pattern = new RegExp(values.only);
  const measurements = [];
  let instructions = [];
  try {
    for (const given of CASES.filter(({ name }) => pattern.test(name))) {
      const why = targets[given.target].missing ?? given.missing?.();
      if (why) console.log(`skipped ${given.name}: ${why}`);
      else measurements.push(...measureCase(given, targets[given.target], plan));
    }
    if (pattern.test(INSTRUCTIONS)) instructions = instructionsPerIo(targets.null);
  } finally {
    for (const target of Object.values(targets)) target.close();
  }
  const control = pattern.test(CONTROL_PLANE) ? await controlPlane() : [];
  const tables = [
    ...loopbackTables(measurements, CASES),
    instructionsTable(instructions),
    controlTable(control),
  ].filter(({ rows }) => rows.length > 0);
  const charts = loopbackCharts(measurements, CASES);
  const data = { plan, measurements, instructions, control };
  await writeReport({ ...preface(plan), tables, charts, data }, output, 'loopback');
}

/** One case: round by round its peers in turn, each time another one first. */
function measureCase(given, target, { rounds, seconds }) {
  const results = [];
  const peers = Object.entries(given.peers);
  for (let round = 0; round < rounds; round++) {
    const turn = round % peers.length;
    for (const [peer, how] of [...peers.slice(turn), ...peers.slice(0, turn)]) {
      const result = measureOnce({ ...given.settings, ...how }, target, seconds);
      results.push({ case: given.name, peer, round, ...result });
      const speed = (result.ios / result.seconds).toFixed(0).padStart(9);
      console.log(`  ${given.name.padEnd(28)} ${round + 1} ${peer.padEnd(22)}${speed}`);
    }
  }
  return results;
}

/** The rest is worth having also where valgrind is absent, or does not know the kernel or CPU. */
function instructionsPerIo(target) {
  try {
    return countInstructions(target);
  } catch (error) {
    console.log(`skipped instructions per I/O: ${error.message}`);
    return [];
  }
}

function controlTable(results) {
  const rows = results.map(({ name, hz, rme }) => [
    name,
    digits(1e6 / hz),
    rme === undefined ? 'once' : `±${rme.toFixed(1)} %`,
  ]);
  return { title: 'The control plane', titles: ['what', 'µs', 'error'], rows };
}

function preface({ rounds, seconds, load }) {
  const model = cpus()[0]?.model ?? 'unknown CPU';
  return {
    title: 'ringdisk on the loopback machine',
    preface: [
      `Measured ${new Date().toISOString().slice(0, 16)}Z by \`npm run bench\` on ` +
        `${availableParallelism()} CPUs (${model}; load average before: ${load}). ${rounds} ` +
        `rounds of ${seconds} s, peers interleaved; each figure is median [min–max].`,
      'The guest is a real blkif frontend on a thread of its own; grants and event channels ' +
        'are files and FIFOs, so hypercalls and interrupts cost nothing like they do on Xen.',
      'Limit: the same frontend against a loop that only copies each request out of the ring and ' +
        'each response in, and moves no data. io_uring: a loop with the same depth, set-up ' +
        'flags, registered memory and target, no guest, and nothing else. fio: its io_uring ' +
        'engine with registered memory and file on the same target.',
    ],
  };
}

try {
  await main();
} catch (error) {
  console.error(`bench: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 2;
}
