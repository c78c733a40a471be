// SPDX-License-Identifier: Apache-2.0
// A qcow2 image with nine cache settings beside a raw file of the same size, round by round, by way
// of a guest's ring on the loopback machine; and the CPU time of daemon and helper for each I/O.
// The image's tables are there and its data are holes, so that the format is measured and not a
// disk. As root:
//   npm run build && node bench/formats.mjs [rounds] [GiB] [folder]
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ControlClient } from '../dist/control/client.js';
import { controlSocketPath } from '../dist/control/protocol.js';
import { SETTINGS } from './format_settings.mjs';
import { Machine } from './loopback/machine.mjs';
import { figure, shown } from './report/figures.mjs';

const ROUNDS = 3;
/** 8 MiB of tables: more than two of the caches hold. */
const GIB = 64;
const MILLISECONDS = 1000;
const TICKS_PER_SECOND = 100;
const CASES = [
  { title: '1 MiB read', operation: 'read', blockBytes: 1 << 20, depth: 8 },
  { title: '1 MiB write', operation: 'write', blockBytes: 1 << 20, depth: 8 },
  { title: '4 KiB random read, QD 32', operation: 'randread', blockBytes: 4096, depth: 32 },
  { title: '4 KiB random write, QD 32', operation: 'randwrite', blockBytes: 4096, depth: 32 },
  { title: '4 KiB random read, QD 1', operation: 'randread', blockBytes: 4096, depth: 1 },
  { title: '4 KiB random write, QD 1', operation: 'randwrite', blockBytes: 4096, depth: 1 },
];

/** @typedef {{ perSecond: number, p50: number, cpuUs: number }} Result */

async function main() {
  const [rounds = ROUNDS, gib = GIB] = process.argv.slice(2, 4).map(Number);
  const disk = process.argv[4] ?? 'out';
  mkdirSync(disk, { recursive: true });
  const folder = mkdtempSync(path.resolve(disk, 'formats-'));
  try {
    const peers = makeImages(folder, gib);
    for (const one of CASES) {
      console.log(`\n${one.title}: I/Os a second, p50 in us, us of CPU each; ${rounds} rounds`);
      /** @type {Map<string, Result[]>} */
      const found = new Map(peers.map(({ title }) => [title, []]));
      for (let round = 0; round < rounds; round++) {
        for (const { title, target } of peers) {
          found.get(title)?.push(await measure(target, one, gib));
        }
      }
      for (const [title, all] of found) console.log(rowOf(title, all));
    }
    console.log("\nBeside QEMU's own backend, on Xen: npm run bench:rig -- --images");
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** @param {string} folder @param {number} gib */
function makeImages(folder, gib) {
  const raw = path.join(folder, 'disk.raw');
  writeFileSync(raw, '');
  truncateSync(raw, gib * 2 ** 30);
  const qcow2 = path.join(folder, 'disk.qcow2');
  const args = ['create', '-q', '-f', 'qcow2', '-o', 'preallocation=metadata', qcow2, `${gib}G`];
  const { status, stderr } = spawnSync('qemu-img', args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`qemu-img: ${stderr}`);
  const images = SETTINGS.map(({ title, options }) => ({
    title: `qcow2, ${title}`,
    target: `qcow2:${options}${qcow2}`,
  }));
  return [{ title: 'raw file', target: `file:${raw}` }, ...images];
}

/**
 * @param {string} target @param {typeof CASES[number]} one @param {number} gib
 * @returns {Promise<Result>}
 */
async function measure(target, { operation, blockBytes, depth }, gib) {
  const machine = await Machine.start({ reactors: 1 });
  try {
    const guest = await machine.plug(target);
    await guest.frontend.connect({ queues: 1 });
    const helpers = await processesOf(machine);
    const pids = [machine.pid, ...helpers];
    const work = { operation, blockBytes, depth, offset: 0, length: gib * 2 ** 30, seed: 5 };
    const usual = await guest.frontend.run({ ...work, milliseconds: MILLISECONDS / 4 });
    const before = pids.reduce((sum, pid) => sum + cpuSeconds(pid), 0);
    const result = await guest.frontend.run({ ...work, milliseconds: MILLISECONDS });
    const cpu = pids.reduce((sum, pid) => sum + cpuSeconds(pid), 0) - before;
    if (usual.errors + result.errors > 0) throw new Error(`errors on ${target}`);
    await machine.unplug(guest);
    // It has the image locked, and outlives a daemon that is killed.
    while (helpers.some((pid) => existsSync(`/proc/${pid}`))) await sleep(20);
    const { requests, seconds, latencyUs } = result;
    return { perSecond: requests / seconds, p50: latencyUs.p50, cpuUs: (cpu / requests) * 1e6 };
  } finally {
    await machine.close();
  }
}

/** @param {Machine} machine the processes of its disk beside the daemon */
async function processesOf(machine) {
  const client = await ControlClient.connect(controlSocketPath(machine.folder));
  const { vbds } = await client.call('list', {}).finally(() => client.close());
  const helpers = vbds.flatMap(({ target }) => target?.helper?.pid ?? []);
  const workers = spawnSync('pgrep', ['-P', String(machine.pid)], { encoding: 'utf8' }).stdout;
  return [...new Set([...helpers, ...workers.split('\n').filter(Boolean).map(Number)])];
}

/** User and system time of a process and its threads, in seconds. @param {number} pid */
function cpuSeconds(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** @param {string} title @param {Result[]} all */
function rowOf(title, all) {
  const columns = [
    shown(figure(all.map(({ perSecond }) => perSecond))),
    shown(figure(all.map(({ p50 }) => p50))),
    shown(figure(all.map(({ cpuUs }) => cpuUs))),
  ];
  const cells = columns.map((column) => column.padEnd(24)).join('');
  return `  ${title.padEnd(44)} ${cells}`.trimEnd();
}

await main();
