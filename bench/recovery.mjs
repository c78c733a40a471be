// SPDX-License-Identifier: Apache-2.0
// How long guests wait when their daemon is killed and started again: from the SIGKILL to the first
// answer of each disk, and what that is made of. On the loopback machine:
//   npm run build && node bench/recovery.mjs [disks ...]
import { Machine, WENT_ON } from './loopback/machine.mjs';

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
  const machine = await Machine.start();
  const guests = [];
  for (let i = 0; i < disks; i++) {
    const { frontend } = await machine.plug(machine.image(`disk${i}`, DISK_BYTES));
    await frontend.connect({ queues: 2 });
    guests.push(frontend);
  }
  const rounds = [];
  for (let round = 0; round < ROUNDS; round++) {
    const killed = performance.now();
    await machine.killDaemon();
    const gone = performance.now() - killed;
    const started = Date.now();
    const takenOver = machine.startDaemon(WENT_ON);
    const answers = guests.map(async (guest) => {
      const { errors } = await guest.run({ ...ONE_READ, bytes: 4096, seed: 1 });
      if (errors > 0) throw new Error('a read failed');
      return performance.now() - killed;
    });
    const answered = (await Promise.all(answers)).sort((a, b) => a - b);
    await takenOver;
    const found = Date.parse(machine.said.get('found')?.time ?? '');
    rounds.push({
      'the process is gone': gone,
      'the next one looks': gone + found - started,
      'first answer': answered[0],
      'median answer': answered[Math.floor(answered.length / 2)],
      'last answer': answered.at(-1),
      'CPU time of the start': cpuMilliseconds(machine),
    });
  }
  report(disks, rounds);
  await machine.close();
}

/**
 * Of all its threads: unlike the others, this figure hardly depends on what else the machine does.
 * @param {Machine} machine
 */
function cpuMilliseconds(machine) {
  const ran = machine.threadFiles('schedstat');
  return ran.reduce((sum, text) => sum + Number.parseInt(text, 10), 0) / 1e6;
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
