// SPDX-License-Identifier: Apache-2.0
// An export beside nbdkit and qemu-storage-daemon over the same medium, by fio's NBD client over
// UNIX sockets: round by round, another one first in each, a server alone at a time; and the
// server's CPU time for each I/O. As root: npm run build && node bench/nbd.mjs --help
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { ControlClient } from '../dist/control/client.js';
import { controlSocketPath } from '../dist/control/protocol.js';
import { Machine } from './loopback/machine.mjs';
import { openTargets } from './loopback/targets.mjs';
import { digits, figure, shown } from './report/figures.mjs';

const USAGE = `usage: node bench/nbd.mjs [--rounds 5] [--seconds 2] [--targets null,loop,file]
       [--cases 4 KiB read, QD 32;...]
  null  nothing: what the protocol costs (nbdkit's null plugin, QEMU's null-co)
  loop  a loop device on tmpfs; nbdkit has no O_DIRECT: it reads and writes the page cache
  file  a file on the disk of ./out, likewise`;
const TICKS_PER_SECOND = 100;
const STARTED_MS = 10_000;
const CASES = [
  { title: '4 KiB read, QD 32', rw: 'randread', bs: '4k', depth: 32 },
  { title: '4 KiB write, QD 32', rw: 'randwrite', bs: '4k', depth: 32 },
  { title: '4 KiB read, QD 1', rw: 'randread', bs: '4k', depth: 1 },
  { title: '1 MiB read, QD 8', rw: 'read', bs: '1m', depth: 8 },
  { title: '1 MiB write, QD 8', rw: 'write', bs: '1m', depth: 8 },
];

/**
 * @typedef {{ name: string, uri: string, pids: () => number[], close: () => Promise<void> }} Server
 */

/** @param {import('./loopback/targets.mjs').Target} target @returns {Promise<Server>} */
async function ringdisk(target) {
  const machine = await Machine.start({ reactors: 1 });
  const client = await ControlClient.connect(controlSocketPath(machine.folder));
  const source = `${target.kind}:${target.path}`;
  const { export: made } = await client.call('exportAdd', { source, name: 'disk' });
  client.close();
  const children = () => {
    const text = spawnSync('pgrep', ['-P', String(machine.pid)], { encoding: 'utf8' }).stdout;
    return text.split('\n').filter(Boolean).map(Number);
  };
  const pids = () => [machine.pid, ...children()];
  return { name: 'ringdisk', uri: made.uri, pids, close: () => machine.close() };
}

/**
 * @param {string} name @param {string} folder @param {string} program @param {string[]} args
 * @returns {Promise<Server>}
 */
async function other(name, folder, program, args) {
  const socket = path.join(folder, `${name}.sock`);
  const given = args.map((arg) => arg.replace('SOCKET', socket));
  const child = spawn(program, given, { stdio: 'inherit' });
  const ended = once(child, 'exit');
  for (const since = performance.now(); !existsSync(socket); await sleep(20)) {
    if (child.exitCode !== null || performance.now() > since + STARTED_MS) {
      throw new Error(`${program} does not serve: ${given.join(' ')}`);
    }
  }
  const close = async () => {
    child.kill();
    await ended;
    rmSync(socket, { force: true });
  };
  const pids = () => [child.pid ?? 0];
  return { name, uri: `nbd+unix:///disk?socket=${socket}`, pids, close };
}

/** @param {string} folder @param {import('./loopback/targets.mjs').Target} target */
function others(folder, { path: medium, kind }) {
  const direct = `filename=${medium},aio=io_uring,cache.direct=on`;
  const nodes = {
    null: `driver=null-co,size=${medium},read-zeroes=off`,
    block: `driver=host_device,${direct}`,
    file: `driver=file,${direct}`,
  };
  const plugin = kind === 'null' ? ['null', medium] : ['file', medium];
  return [
    other('nbdkit', folder, 'nbdkit', ['-f', '-U', 'SOCKET', '-e', 'disk', ...plugin]),
    other('qemu', folder, 'qemu-storage-daemon', [
      ...['--blockdev', `node-name=f,${nodes[kind]}`],
      ...['--nbd-server', 'addr.type=unix,addr.path=SOCKET'],
      ...['--export', 'type=nbd,id=e,node-name=f,name=disk,writable=on'],
    ]),
  ];
}

/** User and system time of a process and its threads, in seconds. @param {number} pid */
function cpuSeconds(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** @param {Server} server @param {typeof CASES[number]} one @param {number} seconds */
async function measure({ uri, pids }, { rw, bs, depth }, seconds) {
  const all = pids();
  const cpu = () => all.reduce((sum, pid) => sum + cpuSeconds(pid), 0);
  const before = cpu();
  const job = ['--name=x', '--ioengine=nbd', `--uri=${uri}`, `--rw=${rw}`, `--bs=${bs}`];
  const long = ['--time_based', `--runtime=${seconds}`, '--size=256m', '--output-format=json'];
  const fio = spawn('fio', [...job, `--iodepth=${depth}`, ...long]);
  let text = '';
  for await (const chunk of fio.stdout) text += chunk;
  const [result] = JSON.parse(text.slice(text.indexOf('{'))).jobs;
  const ios = result.read.total_ios + result.write.total_ios;
  return { perSecond: result.read.iops + result.write.iops, cpuUs: ((cpu() - before) / ios) * 1e6 };
}

/** @typedef {{ perSecond: number, cpuUs: number }} Measured */

/**
 * @param {Server[]} running @param {typeof CASES[number]} one @param {number} rounds
 * @param {number} seconds
 */
async function compare(running, one, rounds, seconds) {
  /** @type {Record<string, Measured[]>} */
  const found = Object.fromEntries(running.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < running.length; turn++) {
      const server = running[(round + turn) % running.length];
      if (server) found[server.name]?.push(await measure(server, one, seconds));
    }
  }
  const ours = found['ringdisk'] ?? [];
  for (const [name, all] of Object.entries(found)) {
    const speed = shown(figure(all.map(({ perSecond }) => perSecond)));
    const cpu = shown(figure(all.map(({ cpuUs }) => cpuUs)));
    const ratio = figure(all.map(({ perSecond }, at) => (ours[at]?.perSecond ?? 0) / perSecond));
    const ratios = name === 'ringdisk' ? '' : `ringdisk ×${digits(ratio.median)}`;
    console.log(
      `  ${one.title.padEnd(20)} ${name.padEnd(9)} ${speed.padEnd(24)} ${cpu.padEnd(20)} ${ratios}`,
    );
  }
}

/**
 * @param {string} title @param {import('./loopback/targets.mjs').Target} target
 * @param {{ rounds: number, seconds: number, cases: typeof CASES }} how
 */
async function measureTarget(title, target, { rounds, seconds, cases }) {
  const folder = mkdtempSync('/dev/shm/ringdisk-nbd-');
  console.log(`${title}: I/Os a second, us of CPU each, ratio of the same round; ${rounds} rounds`);
  for (const one of cases) {
    const running = await Promise.all([ringdisk(target), ...others(folder, target)]);
    await compare(running, one, rounds, seconds);
    for (const server of running) await server.close();
  }
  rmSync(folder, { recursive: true });
}

async function main() {
  const text = (/** @type {string} */ value) => ({
    type: /** @type {const} */ ('string'),
    default: value,
  });
  const titles = CASES.map(({ title }) => title).join(';');
  const { values } = parseArgs({
    options: {
      ...{ rounds: text('5'), seconds: text('2'), targets: text('null,loop,file') },
      ...{ cases: text(titles), help: { type: 'boolean' } },
    },
  });
  if (values.help) return console.log(USAGE);
  const chosen = CASES.filter(({ title }) => values.cases.split(';').includes(title));
  const how = { rounds: Number(values.rounds), seconds: Number(values.seconds), cases: chosen };
  mkdirSync('out', { recursive: true });
  const targets = openTargets('out');
  try {
    for (const title of values.targets.split(',')) {
      const target = targets[title];
      if (!target) throw new Error(`there is no target ${title}`);
      if (target.missing) console.log(`${title}: ${target.missing}`);
      else await measureTarget(title, target, how);
    }
  } finally {
    for (const target of Object.values(targets)) target.close();
  }
}

await main();
