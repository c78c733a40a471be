// SPDX-License-Identifier: Apache-2.0
// What many disks cost, and what neighbours cost each other. On the loopback machine, with null
// targets, so that the data path is all there is:
//   npm run build && node bench/scale.mjs [connect] [idle] [crowd] [throughput] [neighbours]
import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Machine } from './loopback/machine.mjs';
import { digits, figure, shown } from './report/figures.mjs';

const GIB = 2 ** 30;
const TARGET = `null:${GIB}`;
const REACTORS = 2;
const PAGE = { operation: 'randread', blockBytes: 4096, offset: 0, length: GIB, seed: 1 };
const ROUNDS = 7;
const IDLE_MS = 10_000;
const IDLERS = 1000;

/** @type {Record<string, () => Promise<void>>} */
const PARTS = { connect, idle, crowd, throughput, neighbours };

async function main() {
  const names = process.argv.slice(2);
  for (const name of names.length > 0 ? names : Object.keys(PARTS)) {
    const part = PARTS[name];
    if (!part) throw new Error(`no such part: ${name}; there are ${Object.keys(PARTS)}`);
    await part();
  }
}

/** 256 guests whose disks are all there, and all of them say Initialised at once. */
async function connect() {
  const machine = await Machine.start({ reactors: REACTORS });
  const guests = [];
  for (let i = 0; i < 256; i++) guests.push(await machine.plug(TARGET));
  const began = performance.now();
  const took = await Promise.all(
    guests.map(async ({ frontend, paths }) => {
      const connected = stateTimes(machine, paths);
      await frontend.connect({ queues: 1 });
      return connected();
    }),
  );
  const all = performance.now() - began;
  const each = (machine.memory() - machine.emptyMemory) / guests.length / 1024;
  console.log(`256 disks connect at once: ${digits(all)} ms for all`);
  console.log(`  Initialised to Connected, ms: ${shown(figure(took))}`);
  console.log(`  memory per idle disk of one queue: ${digits(each)} KiB`);
  await machine.close();
}

/**
 * Watches both ends of a disk; the function it returns says how long the backend took, ms.
 * @param {Machine} machine
 * @param {import('../dist/platform/loopback_toolstack.js').VbdPaths} paths
 */
function stateTimes(machine, { frontend, backend }) {
  const xenstore = machine.xenstore(0);
  /** @type {Record<string, number>} */
  const at = {};
  const note = (/** @type {string} */ node, /** @type {string} */ state) =>
    xenstore.watch(node, async () => {
      if ((await xenstore.read(node)) === state) at[node] ??= performance.now();
    });
  note(`${frontend}/state`, '3');
  note(`${backend}/state`, '4');
  return () => at[`${backend}/state`] - at[`${frontend}/state`];
}

/** 100 guests that have done I/O and then do nothing: who of the daemon's threads still runs? */
async function idle() {
  const machine = await Machine.start({ reactors: REACTORS });
  const guests = await connected(machine, 100, 1);
  await Promise.all(guests.map((guest) => guest.run({ ...PAGE, depth: 4, bytes: 1 << 20 })));
  await sleep(1000);
  const before = { switches: switches(machine), wakeups: await wakeups(machine) };
  await sleep(IDLE_MS);
  const after = { switches: switches(machine), wakeups: await wakeups(machine) };
  console.log(`100 idle disks, ${IDLE_MS / 1000} s:`);
  console.log(`  wake-ups of the reactors: ${after.wakeups - before.wakeups}`);
  console.log(`  times a thread was woken or preempted: ${after.switches - before.switches}`);
  await machine.close();
}

/** A busy disk, alone on its reactor and beside a thousand that have been used and are idle. */
async function crowd() {
  const alone = await Machine.start({ reactors: 1 });
  const crowded = await Machine.start({ reactors: 1 });
  const [single] = await connected(alone, 1, 1);
  const [one, ...idlers] = await connected(crowded, 1 + IDLERS, 1);
  for (const idler of idlers) await idler.run({ ...PAGE, depth: 1, bytes: PAGE.blockBytes });
  const costs = [];
  for (let round = 0; round < ROUNDS; round++) {
    const usual = await together(alone, [single]);
    const beside = await together(crowded, [one]);
    costs.push(beside.cpuUs / usual.cpuUs);
  }
  console.log(`a busy disk beside ${IDLERS} idle ones: CPU per I/O × ${shown(figure(costs))}`);
  await Promise.all([alone.close(), crowded.close()]);
}

/** One VBD against 64, two queues each; total, how equal the shares are, what a request costs. */
async function throughput() {
  const machine = await Machine.start({ reactors: REACTORS });
  const guests = await connected(machine, 64, 2);
  const ratios = [];
  const fairness = [];
  const costs = [];
  for (let round = 0; round < ROUNDS; round++) {
    const alone = await together(machine, [guests[round]]);
    const all = await together(machine, guests);
    const total = sum(all.speeds);
    ratios.push(total / sum(alone.speeds));
    fairness.push(jain(all.speeds));
    costs.push(all.cpuUs / alone.cpuUs);
    const [one, many] = [alone.cpuUs, all.cpuUs].map(digits);
    console.log(
      `  ${digits(total)} I/Os a second in all; daemon's CPU per I/O ${one} -> ${many} µs`,
    );
  }
  const busy = digits((machine.memory() - machine.emptyMemory) / 128 / 1024);
  console.log(`64 disks of 2 queues: ${shown(figure(ratios))} of one disk's throughput`);
  console.log(`  the daemon's CPU per I/O: × ${shown(figure(costs))}`);
  console.log(`  Jain's index of their shares: ${shown(figure(fairness))}`);
  console.log(`  memory per busy queue ${busy} KiB`);
  await machine.close();
}

/**
 * All of them busy for a second.
 * @param {Machine} machine
 * @param {import('../dist/platform/loopback_frontend.js').LoopbackFrontend[]} guests
 * @returns {Promise<{ speeds: number[], cpuUs: number }>} I/Os a second of each, and how long the
 *   daemon's threads ran per I/O; that they look out for work is in it
 */
async function together(machine, guests) {
  const before = cpuNs(machine);
  const load = { ...PAGE, depth: 32, milliseconds: 1000 };
  const results = await Promise.all(guests.map((guest) => guest.run(load)));
  const requests = sum(results.map((result) => result.requests));
  return {
    speeds: results.map((result) => result.requests / result.seconds),
    cpuUs: (cpuNs(machine) - before) / 1000 / requests,
  };
}

/** Of all the daemon's threads. @param {Machine} machine */
function cpuNs(machine) {
  return sum(machine.threadFiles('schedstat').map((text) => Number(text.split(' ')[0])));
}

/** @param {number[]} numbers */
function sum(numbers) {
  return numbers.reduce((a, b) => a + b, 0);
}

/** @param {number[]} shares @returns {number} 1: all equal; 1/n: one has all */
function jain(shares) {
  return sum(shares) ** 2 / (shares.length * sum(shares.map((share) => share ** 2)));
}

/**
 * A guest that reads one block after the other, alone and beside three that want all, on one
 * reactor. As on a host each has its CPU: the reactor one, the quiet guest another as soon as it
 * wants it, and the greedy ones what it leaves of that.
 */
async function neighbours() {
  const machine = await Machine.start({ reactors: 1, cpus: [0] });
  const quiet = await connected(machine, 1, 1);
  const greedy = await connected(machine, 3, 4);
  run('taskset', ['-apc', '1', String(process.pid)]);
  const slow = [];
  const median = [];
  for (let round = 0; round < ROUNDS; round++) {
    const alone = await runFirst(quiet[0]);
    const load = { ...PAGE, depth: 16, milliseconds: 3000 };
    const others = greedy.map((guest) => guest.run(load));
    await sleep(500);
    const beside = await runFirst(quiet[0]);
    await Promise.all(others);
    slow.push(beside.latencyUs.p999 / alone.latencyUs.p999);
    median.push(beside.latencyUs.p50 / alone.latencyUs.p50);
    const [a, b] = [alone, beside].map(({ latencyUs }) => digits(latencyUs.p999));
    console.log(`  p99.9 alone ${a} µs, beside three greedy guests ${b} µs`);
  }
  console.log(`QD 1 beside three guests of 4 × 16: p99.9 × ${shown(figure(slow))}`);
  console.log(`  median × ${shown(figure(median))}`);
  await machine.close();
}

/**
 * Its thread runs before all others on its CPU.
 * @param {import('../dist/platform/loopback_frontend.js').LoopbackFrontend} guest
 */
async function runFirst(guest) {
  const threads = () => readdirSync('/proc/self/task');
  const before = new Set(threads());
  const running = guest.run({ ...PAGE, depth: 1, milliseconds: 2000 });
  await sleep(100);
  for (const thread of threads()) {
    if (!before.has(thread)) run('chrt', ['--fifo', '--pid', '1', thread]);
  }
  return running;
}

/** @param {string} command @param {string[]} args */
function run(command, args) {
  execFileSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'] });
}

/** @param {Machine} machine @param {number} count @param {number} queues of each */
async function connected(machine, count, queues) {
  const guests = [];
  for (let i = 0; i < count; i++) {
    const { frontend } = await machine.plug(TARGET);
    await frontend.connect({ queues });
    guests.push(frontend);
  }
  return guests;
}

/** Of all the daemon's reactors. @param {Machine} machine */
async function wakeups(machine) {
  const { reactors } = (await machine.stats()).engine;
  return sum(reactors.map(({ wakeups }) => wakeups));
}

/** Of all the daemon's threads. @param {Machine} machine */
function switches(machine) {
  const pattern = /^(?:non)?voluntary_ctxt_switches:\s+(\d+)/gm;
  const texts = machine.threadFiles('status');
  return sum(texts.flatMap((text) => [...text.matchAll(pattern)].map(([, n]) => Number(n))));
}

await main();
