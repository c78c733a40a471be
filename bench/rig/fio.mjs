// SPDX-License-Identifier: Apache-2.0
// The guest's fio: the shell text that runs it, and what its terse output says.

const KIB = 1024;
/** Where fields begin in fio's terse version 3; each direction has the same. */
const DIRECTIONS = { read: 5, write: 46 };
const FIELD = { kib: 0, milliseconds: 3, meanUs: 10, percentiles: 12 };
const PERCENTILES = 20;

/**
 * @param {string} vdev
 * @param {import('./plan.mjs').Workload} workload
 * @param {string} mark the probe's name of this run; its two moments are <mark>a and <mark>b
 * @param {{ engine?: 'libaio' | 'null', regionMib?: number }} [options] null: all but the I/O, to
 *   learn what a run costs by itself
 * @returns {string} shell text for the guest; prints fio's terse lines
 */
export function fioJob(vdev, workload, mark, { engine = 'libaio', regionMib = 512 } = {}) {
  const { rw, bs, jobs, depth, mib } = workload;
  const each = `--io_size=${(mib * KIB) / jobs}k`;
  const region =
    jobs > 1
      ? `--size=${regionMib / jobs}m --offset_increment=${regionMib / jobs}m`
      : `--size=${regionMib}m`;
  const flushes = engine === 'null' ? '' : `echo flushes $(cat /sys/block/${vdev}/stat)\n`;
  return `${flushes}xenstore-write data/rig/mark ${mark}a
fio --name=run --filename=/dev/${vdev} --ioengine=${engine} --direct=1 --thread --norandommap \\
  --rw=${rw} --bs=${bs} --numjobs=${jobs} --iodepth=${depth} ${region} ${each} \\
  --group_reporting --minimal > /tmp/run.out || { cat /tmp/run.out; exit 1; }
xenstore-write data/rig/mark ${mark}b
cat /tmp/run.out
${flushes}`;
}

/** Of a device's stat in sysfs: flushes that its driver has carried out. */
const FLUSHES = 15;

/** @param {string} stat a device's, as sysfs words it */
export function flushesOf(stat) {
  return Number(stat.trim().split(/\s+/)[FLUSHES] ?? Number.NaN);
}

/**
 * What the guest's driver was asked.
 * @param {string[]} lines what the job printed
 * @returns {number}
 */
function guestFlushes(lines) {
  const told = lines.filter((line) => line.startsWith('flushes '));
  const [before = Number.NaN, after = Number.NaN] = told.map((line) => flushesOf(line.slice(8)));
  return after - before;
}

/**
 * @typedef {object} FioResult
 * @property {number} ios
 * @property {number} seconds
 * @property {number} meanUs  of completion latencies, over both directions
 * @property {number} p50Us   of the direction with more I/Os; so are the others
 * @property {number} p99Us
 * @property {number} guestFlushes that the guest's block layer asked its driver for
 */

/**
 * @param {string[]} lines what the job printed
 * @param {import('./plan.mjs').Workload} workload
 * @returns {FioResult}
 */
export function parseFio(lines, workload) {
  const fields = lines.find((line) => /^3;fio-/.test(line))?.split(';');
  if (fields?.[4] !== '0') throw new Error(`fio failed: ${lines.join(' | ')}`);
  const block = workload.bs === '1m' ? KIB * KIB : 4 * KIB;
  const sides = Object.values(DIRECTIONS).map((start) => side(fields, start, block));
  const ios = sides.reduce((sum, { ios }) => sum + ios, 0);
  const wanted = (workload.mib * KIB * KIB) / block;
  if (Math.abs(ios - wanted) > workload.jobs) throw new Error(`fio made ${ios} of ${wanted} I/Os`);
  const main = sides.reduce((a, b) => (b.ios > a.ios ? b : a));
  return {
    ios,
    seconds: Math.max(...sides.map(({ seconds }) => seconds)),
    meanUs: sides.reduce((sum, { ios, meanUs }) => sum + ios * meanUs, 0) / ios,
    p50Us: main.percentiles['50'] ?? Number.NaN,
    p99Us: main.percentiles['99'] ?? Number.NaN,
    guestFlushes: guestFlushes(lines),
  };
}

/** @param {string[]} fields @param {number} start @param {number} block bytes */
function side(fields, start, block) {
  const number = (/** @type {number} */ at) => Number(fields[start + at]);
  const listed = fields.slice(start + FIELD.percentiles, start + FIELD.percentiles + PERCENTILES);
  const percentiles = Object.fromEntries(
    listed.map((text) => text.split('%=')).map(([p, us]) => [String(Number(p)), Number(us)]),
  );
  return {
    ios: (number(FIELD.kib) * KIB) / block,
    seconds: number(FIELD.milliseconds) / 1000,
    meanUs: number(FIELD.meanUs) || 0,
    percentiles,
  };
}
