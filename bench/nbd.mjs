// SPDX-License-Identifier: Apache-2.0
// An export beside nbdkit's file plugin and qemu-storage-daemon over the same medium, by fio's NBD
// client over UNIX sockets, round by round; and the server's CPU time for each I/O. As root:
//   npm run build && node bench/nbd.mjs [rounds]
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ControlClient } from '../dist/control/client.js';
import { controlSocketPath } from '../dist/control/protocol.js';
import { Machine } from './loopback/machine.mjs';
import { openTargets } from './loopback/targets.mjs';
import { figure, shown } from './report/figures.mjs';

const ROUNDS = 5;
const SECONDS = 2;
const TICKS_PER_SECOND = 100;
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
  while (!existsSync(socket)) await sleep(20);
  const close = async () => {
    child.kill();
  };
  const pids = () => [child.pid ?? 0];
  return { name, uri: `nbd+unix:///disk?socket=${socket}`, pids, close };
}

/** @param {string} folder @param {import('./loopback/targets.mjs').Target} target */
function servers(folder, { path: medium, kind }) {
  const driver = kind === 'block' ? 'host_device' : 'file';
  return [
    other('nbdkit', folder, 'nbdkit', ['-f', '-U', 'SOCKET', '-e', 'disk', 'file', medium]),
    other('qemu', folder, 'qemu-storage-daemon', [
      '--blockdev',
      `driver=${driver},node-name=f,filename=${medium},aio=io_uring,cache.direct=on`,
      '--nbd-server',
      'addr.type=unix,addr.path=SOCKET',
      '--export',
      'type=nbd,id=e,node-name=f,name=disk,writable=on',
    ]),
  ];
}

/** User and system time of a process and its threads, in seconds. @param {number} pid */
function cpuSeconds(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** @param {Server} server @param {typeof CASES[number]} one */
async function measure({ uri, pids }, { rw, bs, depth }) {
  const all = pids();
  const cpu = () => all.reduce((sum, pid) => sum + cpuSeconds(pid), 0);
  const before = cpu();
  const job = ['--name=x', '--ioengine=nbd', `--uri=${uri}`, `--rw=${rw}`, `--bs=${bs}`];
  const long = ['--time_based', `--runtime=${SECONDS}`, '--size=256m', '--output-format=json'];
  const fio = spawn('fio', [...job, `--iodepth=${depth}`, ...long]);
  let text = '';
  for await (const chunk of fio.stdout) text += chunk;
  const [result] = JSON.parse(text.slice(text.indexOf('{'))).jobs;
  const ios = result.read.total_ios + result.write.total_ios;
  return { perSecond: result.read.iops + result.write.iops, cpuUs: ((cpu() - before) / ios) * 1e6 };
}

async function main() {
  const rounds = Number(process.argv[2] ?? ROUNDS);
  const folder = mkdtempSync('/dev/shm/ringdisk-nbd-');
  mkdirSync('out', { recursive: true });
  const targets = openTargets('out');
  for (const title of ['loop', 'file']) {
    const target = targets[title];
    if (!target || target.missing) continue;
    console.log(`${title}, I/Os a second and us of CPU each, medians of ${rounds} rounds`);
    for (const one of CASES) {
      const running = await Promise.all([ringdisk(target), ...servers(folder, target)]);
      /** @type {Record<string, { perSecond: number, cpuUs: number }[]>} */
      const found = {};
      for (let round = 0; round < rounds; round++) {
        for (const server of running) {
          found[server.name] = [...(found[server.name] ?? []), await measure(server, one)];
        }
      }
      for (const server of running) await server.close();
      for (const [name, all] of Object.entries(found)) {
        const speed = shown(figure(all.map(({ perSecond }) => perSecond)));
        const cpu = shown(figure(all.map(({ cpuUs }) => cpuUs)));
        console.log(`  ${one.title.padEnd(20)} ${name.padEnd(9)} ${speed.padEnd(26)} ${cpu}`);
      }
      rmSync(folder, { recursive: true });
      mkdirSync(folder);
    }
  }
  for (const target of Object.values(targets)) target.close();
  rmSync(folder, { recursive: true });
}

await main();
