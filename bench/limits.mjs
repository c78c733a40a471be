// SPDX-License-Identifier: Apache-2.0
// How exact limits are, what a neighbour of a limited flood notices, and how often a reactor wakes
// for requests that wait. Without Xen:
//   npm run build && node bench/limits.mjs [seconds]
import { setTimeout as sleep } from 'node:timers/promises';
import { ControlClient } from '../dist/control/client.js';
import { controlSocketPath } from '../dist/control/protocol.js';
import { Machine } from './loopback/machine.mjs';
import { digits, figure, shown } from './report/figures.mjs';

const SECONDS = 10;
const ROUNDS = 5;
const QUEUES = 4;
const MIB = 1024 * 1024;
const REGION = 64 * MIB;
const DISK = 'null:1G';
// Until the burst is spent.
const SETTLE_MS = 1500;

const RATES = [
  { limits: 'iops=100', blockBytes: 4096 },
  { limits: 'iops=2000', blockBytes: 4096 },
  { limits: 'iops=20000', blockBytes: 4096 },
  { limits: 'bps=10M', blockBytes: 4096 },
  { limits: 'bps=100M', blockBytes: 65536 },
  { limits: 'bps=100M', blockBytes: MIB },
];

/**
 * @param {'randread' | 'randwrite'} operation @param {number} blockBytes @param {number} depth
 * @param {number} milliseconds
 */
function work(operation, blockBytes, depth, milliseconds) {
  return { operation, blockBytes, depth, offset: 0, length: REGION, milliseconds, seed: 1 };
}

/** @param {Machine} machine @param {string} name @param {string} limits */
async function limit(machine, name, limits) {
  const client = await ControlClient.connect(controlSocketPath(machine.folder));
  await client.call('limit', limits === '' ? { vbd: name, off: true } : { vbd: name, limits });
  client.close();
}

/** @param {number} seconds */
async function exactness(seconds) {
  console.log(`Exactness over ${seconds} s, ${QUEUES} queues of QD 8 on two reactors:`);
  const machine = await Machine.start({ reactors: 2 });
  const { frontend } = await machine.plug(DISK);
  await frontend.connect({ queues: QUEUES });
  for (const { limits, blockBytes } of RATES) {
    await limit(machine, '1/xvda', '');
    await limit(machine, '1/xvda', limits);
    const running = frontend.run(
      work('randwrite', blockBytes, 8, SETTLE_MS + seconds * 1000 + 500),
    );
    await sleep(SETTLE_MS);
    const counted = async () => {
      const { vbds, monotonicMs } = await machine.stats();
      const { writes = 0, writeBytes = 0 } = vbds[0]?.counters ?? {};
      return { writes, writeBytes, monotonicMs };
    };
    const before = await counted();
    await sleep(seconds * 1000);
    const after = await counted();
    await running;
    const took = (after.monotonicMs - before.monotonicMs) / 1000;
    const [word, figureText = ''] = limits.split('=');
    const wanted = Number.parseInt(figureText, 10) * (word === 'bps' ? MIB : 1);
    const key = word === 'bps' ? 'writeBytes' : 'writes';
    const error = ((after[key] - before[key]) / took / wanted - 1) * 100;
    const block = `${blockBytes / 1024} KiB`;
    console.log(`  ${limits.padEnd(12)} ${block.padEnd(9)} ${error.toFixed(2)} % off`);
  }
  await machine.close();
}

/** A lone reader, alone and beside a flood that is limited, on one reactor. */
async function neighbour() {
  const machine = await Machine.start({ reactors: 1 });
  const flood = await machine.plug(DISK);
  const reader = await machine.plug(DISK);
  await flood.frontend.connect({ queues: QUEUES });
  await reader.frontend.connect({ queues: 1 });
  await limit(machine, '1/xvda', 'iops=2000');
  /** @type {{ p50: number[], p99: number[] }} */
  const ratios = { p50: [], p99: [] };
  const read = () => reader.frontend.run(work('randread', 4096, 1, 2000));
  await read();
  for (let round = 0; round < ROUNDS; round++) {
    const alone = await read();
    const flooding = flood.frontend.run(work('randwrite', 4096, 32, 2600));
    await sleep(300);
    const beside = await read();
    await flooding;
    for (const key of /** @type {const} */ (['p50', 'p99'])) {
      ratios[key].push(beside.latencyUs[key] / alone.latencyUs[key]);
    }
  }
  console.log(`A lone 4 KiB reader beside a flood that is limited to 2000 IOPS, one reactor:`);
  console.log(`  p50 ${shown(figure(ratios.p50))} times, p99 ${shown(figure(ratios.p99))} times`);
  await machine.close();
}

async function wakeUps() {
  const machine = await Machine.start({ reactors: 1 });
  const { frontend } = await machine.plug(DISK);
  await frontend.connect({ queues: QUEUES });
  const wakeups = async () => {
    const { engine } = await machine.stats();
    return engine.reactors.reduce((sum, reactor) => sum + reactor.wakeups, 0);
  };
  const during = async (/** @type {number} */ ms) => {
    const before = await wakeups();
    await sleep(ms);
    return (await wakeups()) - before;
  };
  await limit(machine, '1/xvda', 'iops=1');
  await frontend.run(work('randread', 4096, 1, 10));
  await sleep(1000);
  console.log(`Wake-ups of a limited disk: ${await during(5000)} in 5 s while it is idle,`);
  const running = frontend.run(work('randread', 4096, 8, 7000));
  await sleep(1000);
  const busy = await during(5000);
  console.log(`  ${digits(busy / 5)} a second at one request a second with 32 that wait`);
  await limit(machine, '1/xvda', '');
  await running;
  await machine.close();
}

await exactness(Number(process.argv[2] ?? SECONDS));
await neighbour();
await wakeUps();
