// SPDX-License-Identifier: Apache-2.0
// Builds bench/native and runs one measurement of it, or of fio.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { step } from '../../src/setup/steps.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const FOLDER = `${ROOT}out/bench`;
const LIMIT_MS = 60_000;

/**
 * @typedef {object} Result
 * @property {number} ios
 * @property {number} seconds
 * @property {number} p50Us
 * @property {number} p99Us
 * @property {number} [cpuNs] of who serves: ringdisk's reactors, else the whole process; no limit's
 * @property {Record<string, number>} [counted] ringdisk's counters
 */

export async function buildBench() {
  const flags = ['-DRINGDISK_ADDON=OFF', '-DRINGDISK_BENCH=ON', '-DCMAKE_BUILD_TYPE=Release'];
  const steps = [
    ['configure', ['-S', ROOT, '-B', FOLDER, '-G', 'Ninja', ...flags]],
    ['build', ['--build', FOLDER]],
  ];
  for (const [name, args] of steps) {
    const { ok } = await step(`native bench: ${name}`, 'cmake', args);
    if (!ok) throw new Error('the native half could not be built (see above)');
  }
}

/**
 * @param {Record<string, string | number>} settings
 * @param {import('./targets.mjs').Target} target
 * @param {number} seconds
 * @returns {Result}
 */
export function measureOnce(settings, target, seconds) {
  const { what, ...rest } = settings;
  if (what === 'fio') return fio(rest, target, seconds);
  const milliseconds = Math.round(seconds * 1000);
  const result = runBench({ ...settings, milliseconds }, target);
  const { ios, seconds: took, p50Us, p99Us, cpuNs, ...counted } = result;
  return { ios, seconds: took, p50Us, p99Us, cpuNs, ...(what === 'ringdisk' ? { counted } : {}) };
}

/**
 * One measurement of bench/native.
 * @param {Record<string, string | number>} settings
 * @param {import('./targets.mjs').Target} target
 * @param {{ command?: string[], env?: NodeJS.ProcessEnv }} [under] what to run it with
 * @returns {any} what it says
 */
export function runBench({ what, ...rest }, target, { command = [], env } = {}) {
  // On tmpfs: guest memory on a disk would be written back to it.
  const machine = mkdtempSync('/dev/shm/ringdisk-bench-');
  try {
    const all = { ...rest, kind: target.kind, path: target.path, machine };
    const args = Object.entries(all).map(([name, value]) => `${name}=${value}`);
    const [program, ...before] = [...command, `${FOLDER}/ringdisk_bench`];
    const result = JSON.parse(runToEnd(program, [...before, String(what), ...args], env));
    if (result.errors > 0) throw new Error(`${result.errors} requests failed`);
    return result;
  } finally {
    rmSync(machine, { recursive: true });
  }
}

/** @returns {Result} */
function fio({ block, depth, operation = 'read' }, target, forSeconds) {
  const output = runToEnd('fio', [
    '--name=run',
    `--filename=${target.path}`,
    '--ioengine=io_uring',
    '--fixedbufs=1',
    '--registerfiles=1',
    '--nonvectored=1',
    '--direct=1',
    '--norandommap',
    `--rw=rand${operation}`,
    `--bs=${block}`,
    `--iodepth=${depth}`,
    '--time_based',
    `--runtime=${Math.round(forSeconds * 1000)}ms`,
    '--output-format=json',
  ]);
  const [run] = JSON.parse(output).jobs;
  const job = run[operation];
  const { 50: p50, 99: p99 } = percentiles(job.clat_ns.percentile);
  const seconds = job.runtime / 1000;
  const cpuNs = ((run.usr_cpu + run.sys_cpu) / 100) * seconds * 1e9;
  return { ios: job.total_ios, seconds, p50Us: p50, p99Us: p99, cpuNs };
}

/** @param {Record<string, number>} ns by "99.000000" @returns {Record<number, number>} µs */
function percentiles(ns) {
  return Object.fromEntries(Object.entries(ns).map(([p, value]) => [Number(p), value / 1000]));
}

/**
 * @param {string} command
 * @param {string[]} args
 * @param {NodeJS.ProcessEnv} [env]
 * @returns {string} its standard output
 */
function runToEnd(command, args, env = process.env) {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: 'utf8',
    env,
    timeout: LIMIT_MS,
    killSignal: 'SIGKILL', // valgrind may be deaf to others
  });
  if (status === 0) return stdout;
  throw new Error(`${command} ${args.join(' ')}: ${error?.message ?? stderr}`);
}
