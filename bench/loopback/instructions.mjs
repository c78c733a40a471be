// SPDX-License-Identifier: Apache-2.0
// Instructions per I/O of ringdisk's whole data path, counted by callgrind: the reactor's thread,
// in user space; null target, persistent grants, 4 KiB reads. See also bench/native/callgrind.cc.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { digits } from '../report/figures.mjs';
import { runBench } from './measure.mjs';

const DEPTHS = [32, 1];
const BLOCK = 4096;
/** I/Os of two runs. Their difference counts: what both have in common is connecting. */
const LENGTHS = [3200, 35_200];
const SHOWN = 16;
/** The bench's own part of a sleep, see callgrind.cc. */
const NOT_OURS = /^__wrap_|^ringdisk_bench_/;
const OWN = 'ringdisk_bench';
const CALLGRIND = [
  'valgrind',
  '--tool=callgrind',
  '--compress-strings=no',
  '--dump-line=no',
  '--collect-atstart=no',
  '--toggle-collect=ringdisk::Reactor::run()',
  '--toggle-collect=ringdisk_bench_sleep',
];
/** As in the rig: of `rep movs` each round would be counted. */
const ENV = { ...process.env, GLIBC_TUNABLES: 'glibc.cpu.hwcaps=-ERMS,-FSRM' };
/** Time under valgrind says nothing about polling: the reactor sleeps after each batch. */
const SETTINGS = { what: 'ringdisk', grants: 'persistent', block: BLOCK, poll_us: 0, callgrind: 1 };

/**
 * @typedef {object} Counted
 * @property {number} depth
 * @property {number} instructions per I/O
 * @property {number} own          of these in our code and liburing, and not in the C library
 * @property {number} wakeups      per I/O
 * @property {Record<string, number>} functions by name, what each itself takes per I/O
 */

/**
 * Throws where valgrind is absent or fails.
 * @param {import('./targets.mjs').Target} target
 * @returns {Counted[]}
 */
export function countInstructions(target) {
  const { error } = spawnSync('valgrind', ['--version']);
  if (error) throw new Error(`valgrind is not installed (${error.message})`);
  return DEPTHS.map((depth) => {
    const counted = countWith({ depth }, target);
    console.log(`  instructions per I/O, QD ${depth}: ${digits(counted.instructions)}`);
    return { depth, ...counted };
  });
}

/**
 * @param {Record<string, string | number>} given settings of bench/native
 * @param {import('./targets.mjs').Target} target
 * @returns {Omit<Counted, 'depth'>}
 */
export function countWith(given, target) {
  const [short, long] = LENGTHS.map((ios) => profile(given, ios, target));
  const ios = long.ios - short.ios;
  /** @type {Record<string, number>} */
  const functions = {};
  let [instructions, own] = [0, 0];
  for (const [name, { cost, object }] of long.costs) {
    const each = (cost - (short.costs.get(name)?.cost ?? 0)) / ios;
    if (each === 0) continue;
    functions[name] = each;
    instructions += each;
    if (object.endsWith(OWN)) own += each;
  }
  const wakeups = (long.wakeups - short.wakeups) / ios;
  return { instructions, own, wakeups, functions };
}

/**
 * @param {Record<string, string | number>} given
 * @param {number} ios
 * @param {import('./targets.mjs').Target} target
 */
function profile(given, ios, target) {
  const folder = mkdtempSync('/dev/shm/ringdisk-callgrind-');
  try {
    const file = `${folder}/out`;
    const command = [...CALLGRIND, `--callgrind-out-file=${file}`];
    const settings = { ...SETTINGS, ...given, bytes: ios * BLOCK };
    const result = runBench(settings, target, { command, env: ENV });
    return {
      ios: result.ios,
      wakeups: result.wakeups,
      costs: selfCosts(readFileSync(file, 'utf8')),
    };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/**
 * What each function itself takes, from callgrind's own file: lines of "position cost" under fn=;
 * the one after calls= is what was called.
 * @param {string} text
 */
function selfCosts(text) {
  /** @type {Map<string, { cost: number, object: string }>} */
  const costs = new Map();
  let [object, current, sum] = ['', { cost: 0, object: '' }, 0];
  const lines = text.split('\n');
  for (let i = lines.findIndex((line) => line.startsWith('ob=')); i < lines.length; i++) {
    const line = lines[i];
    if (line.startsWith('ob=')) object = line.slice('ob='.length);
    if (line.startsWith('fn=')) {
      const name = shortName(line.slice('fn='.length));
      current = costs.get(name) ?? { cost: 0, object };
      if (!NOT_OURS.test(name)) costs.set(name, current);
    }
    if (line.startsWith('calls=')) i++;
    const [, cost] = /^[\d+*-]\S* (\d+)$/.exec(line) ?? [];
    current.cost += Number(cost ?? 0);
    sum += Number(cost ?? 0);
  }
  const [, summary] = /^summary: (\d+)/m.exec(text) ?? [];
  if (sum === 0 || sum !== Number(summary))
    throw new Error(`callgrind counted ${summary} instructions, of which ${sum} have a function`);
  return costs;
}

/** @param {string} name "ringdisk::Queue::answer(ringdisk::Slot&, short)" */
function shortName(name) {
  return name
    .replaceAll('(anonymous namespace)::', '')
    .replace(/\(.*/, '')
    .replace('ringdisk::', '');
}

/** @param {Counted[]} counted @returns {import('../report/write.mjs').Table} */
export function instructionsTable(counted) {
  const names = Object.keys(counted[0]?.functions ?? {});
  const each = (/** @type {(of: Counted) => number} */ value) =>
    counted.map((of) => digits(value(of)));
  const by = (/** @type {string} */ name) => (/** @type {Counted} */ of) => of.functions[name] ?? 0;
  const top = names.sort((a, b) => by(b)(counted[0]) - by(a)(counted[0])).slice(0, SHOWN);
  const rows = [
    ['all', ...each((of) => of.instructions)],
    ['ringdisk and liburing, without the C library', ...each((of) => of.own)],
    ...top.map((name) => [name, ...each(by(name))]),
    ['the others', ...each((of) => of.instructions - sum(top.map((name) => by(name)(of))))],
    ['wake-ups', ...each((of) => of.wakeups)],
  ];
  return {
    title: 'Instructions per I/O (callgrind): reactor thread, 4 KiB reads, null target, persistent',
    titles: ['what', ...counted.map(({ depth }) => `QD ${depth}`)],
    rows: counted.length > 0 ? rows : [],
  };
}

/** @param {number[]} values */
function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}
