// SPDX-License-Identifier: Apache-2.0
// What a guest notices when the filters of its disk are exchanged under it: the slowest request of
// a run in which a mirror is put in front of the disk and taken away again, beside runs without.
//   npm run build && node bench/exchange.mjs [rounds]
import { setTimeout as sleep } from 'node:timers/promises';
import { ControlClient } from '../dist/control/client.js';
import { controlSocketPath } from '../dist/control/protocol.js';
import { Machine } from './loopback/machine.mjs';
import { figure, shown } from './report/figures.mjs';

const ROUNDS = 20;
const RUN_MS = 400;
const MIB = 1024 * 1024;
const VBD = '1/xvda';
/** Slow: what is copied is not what is asked here. */
const RATE = MIB;
const CASES = [
  { title: 'null target, 1 queue, QD 1', queues: 1, depth: 1 },
  { title: 'null target, 1 queue, QD 32', queues: 1, depth: 32 },
  { title: 'null target, 4 queues, QD 32', queues: 4, depth: 32 },
];

/** @param {Machine} machine */
async function exchangeTwice(machine) {
  const client = await ControlClient.connect(controlSocketPath(machine.folder));
  const asked = { vbd: VBD, action: 'start', target: 'null:1G', rate: RATE };
  await client.call('mirror', asked);
  await sleep(RUN_MS / 4);
  await client.call('mirror', { vbd: VBD, action: 'stop' });
  client.close();
}

/** @param {typeof CASES[number]} one @param {number} rounds */
async function measure({ title, queues, depth }, rounds) {
  const machine = await Machine.start({ reactors: 1 });
  const { frontend } = await machine.plug('null:1G');
  await frontend.connect({ queues });
  const work = { operation: 'randwrite', blockBytes: 4096, depth, offset: 0, length: 64 * MIB };
  const run = async (/** @type {() => Promise<void>} */ meanwhile) => {
    const running = frontend.run({ ...work, milliseconds: RUN_MS, seed: 1 });
    await sleep(RUN_MS / 4);
    await meanwhile();
    const { errors, latencyUs } = await running;
    if (errors > 0) throw new Error('a request failed');
    return latencyUs.max / 1000;
  };
  /** @type {{ alone: number[], exchanged: number[] }} */
  const slowest = { alone: [], exchanged: [] };
  await run(() => exchangeTwice(machine));
  for (let round = 0; round < rounds; round++) {
    slowest.alone.push(await run(async () => {}));
    slowest.exchanged.push(await run(() => exchangeTwice(machine)));
  }
  console.log(`${title}: slowest request, ms, median of ${rounds} runs [min–max]`);
  console.log(`  without ${shown(figure(slowest.alone))}`);
  console.log(`  with    ${shown(figure(slowest.exchanged))}`);
  await machine.close();
}

for (const one of CASES) await measure(one, Number(process.argv[2] ?? ROUNDS));
