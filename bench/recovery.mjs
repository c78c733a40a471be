// SPDX-License-Identifier: Apache-2.0
// How long guests wait when their daemon is killed and started again: from the SIGKILL to the first
// answer of each disk, and what that is made of. On the loopback machine:
//   npm run build && node bench/recovery.mjs [disks ...]
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { native } from '../dist/datapath/binding.js';
import { loopbackMachineDir, loopbackXenstoreSocket } from '../dist/platform/loopback.js';
import { LoopbackFrontend } from '../dist/platform/loopback_frontend.js';
import { createVbd } from '../dist/platform/loopback_toolstack.js';
import { MemoryXenstore } from '../dist/xenstore/memory_client.js';
import { MemorySession, MemoryStore } from '../dist/xenstore/memory_store.js';
import { serveXenstore } from '../dist/xenstore/server.js';

const MAIN = fileURLToPath(new URL('../dist/ringdisk.cjs', import.meta.url));
// As systemd starts it: with privileges it would start itself a second time, without them.
const CONFINED = ['--no-new-privs', ...(process.getuid?.() === 0 ? ['--bounding-set=-all'] : [])];
const ROUNDS = 7;
const DISK_BYTES = 16 * 1024 * 1024;
const ONE_READ = { operation: 'read', blockBytes: 4096, depth: 1, offset: 0, length: 4096 };

async function main() {
  const counts = process.argv.slice(2).map(Number);
  console.log(
    'milliseconds from SIGKILL, median of',
    ROUNDS,
    'rounds; one read waits on each disk',
  );
  for (const disks of counts.length > 0 ? counts : [1, 64]) await measure(disks);
}

/** @param {number} disks */
async function measure(disks) {
  const runtimeDir = mkdtempSync('/dev/shm/ringdisk-bench-');
  const store = new MemoryStore();
  const client = (/** @type {number} */ domid) =>
    new MemoryXenstore(new MemorySession(store, domid));
  const server = await serveXenstore(store, { path: loopbackXenstoreSocket(runtimeDir), domid: 0 });
  let daemon = startDaemon(runtimeDir, true);
  await daemon.serving;
  const guests = [];
  for (let domid = 1; domid <= disks; domid++) {
    guests.push(await plug(runtimeDir, client, domid));
  }
  const rounds = [];
  for (let round = 0; round < ROUNDS; round++) {
    const killed = performance.now();
    daemon.child.kill('SIGKILL');
    await once(daemon.child, 'exit');
    const gone = performance.now() - killed;
    for (const guest of guests) guest.backendDied();
    daemon = startDaemon(runtimeDir);
    const answers = guests.map(async (guest) => {
      const { errors } = await guest.run({ ...ONE_READ, bytes: 4096, seed: 1 });
      if (errors > 0) throw new Error('a read failed');
      return performance.now() - killed;
    });
    const answered = (await Promise.all(answers)).sort((a, b) => a - b);
    const { started, found, cpu } = await daemon.serving;
    rounds.push({
      'the process is gone': gone,
      'the next one looks': gone + found - started,
      'first answer': answered[0],
      'median answer': answered[Math.floor(answered.length / 2)],
      'last answer': answered.at(-1),
      'CPU time of the start': cpu,
    });
  }
  report(disks, rounds);
  daemon.child.kill('SIGKILL');
  await once(daemon.child, 'exit');
  for (const guest of guests) await guest.close();
  await server.close();
  rmSync(runtimeDir, { recursive: true });
}

/** @param {string} runtimeDir */
function startDaemon(runtimeDir, isFirst = false) {
  const started = Date.now();
  const args = [MAIN, 'serve', '--platform', 'loopback', '--runtime-dir', runtimeDir];
  const command = [...CONFINED, process.execPath, ...args];
  const child = spawn('setpriv', command, { stdio: ['ignore', 'ignore', 'pipe'] });
  const serving = new Promise((resolve, reject) => {
    let found = Number.NaN;
    createInterface({ input: child.stderr }).on('line', (line) => {
      const { msg, time } = JSON.parse(line);
      if (msg === 'found' && Number.isNaN(found)) found = Date.parse(time);
      const isTakenOver = msg === 'went on with the disks of the daemon before';
      if (isTakenOver || (isFirst && msg === 'serving')) {
        resolve({ started, found, cpu: cpuMilliseconds(child.pid ?? 0) });
      }
    });
    child.once('exit', () => reject(new Error('the daemon ended')));
  });
  serving.catch(() => {});
  return { child, serving };
}

/**
 * Of all its threads: unlike the others, this figure hardly depends on what else the machine does.
 * @param {number} pid
 */
function cpuMilliseconds(pid) {
  const tasks = readdirSync(`/proc/${pid}/task`);
  const ran = tasks.map((task) => readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8'));
  return ran.reduce((sum, text) => sum + Number.parseInt(text, 10), 0) / 1e6;
}

/**
 * @param {string} runtimeDir
 * @param {(domid: number) => MemoryXenstore} client
 * @param {number} domid
 */
async function plug(runtimeDir, client, domid) {
  const image = path.join(runtimeDir, `disk${domid}.img`);
  writeFileSync(image, '');
  truncateSync(image, DISK_BYTES);
  const spec = { domid, devid: 51712, vdev: 'xvda', params: `aio:${image}` };
  const paths = await createVbd(client(0), spec);
  const machineDir = loopbackMachineDir(runtimeDir);
  const frontend = new LoopbackFrontend(native, machineDir, client(domid), paths);
  await frontend.connect({ queues: 2 });
  return frontend;
}

/**
 * @param {number} disks
 * @param {Record<string, number | undefined>[]} rounds
 */
function report(disks, rounds) {
  console.log(`\n${disks} disk${disks === 1 ? '' : 's'}`);
  for (const name of Object.keys(rounds[0] ?? {})) {
    const values = rounds.map((round) => round[name] ?? Number.NaN).sort((a, b) => a - b);
    console.log(`  ${name.padEnd(24)}${values[ROUNDS >> 1]?.toFixed(1).padStart(8)}`);
  }
}

await main();
