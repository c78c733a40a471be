// SPDX-License-Identifier: Apache-2.0
// What a medium that hangs costs the disk beside it: everything that a guest, a toolstack and an
// operator do to disk B, with and without 32 operations of disk A under way that never end, round
// by round. On the loopback machine, as root:
//   npm run build && node bench/hung.mjs [rounds]
import { setTimeout as sleep } from 'node:timers/promises';
import {
  missingForHanging,
  onFrozen,
  onLoopOverFuse,
  onStoppedFuse,
} from '../test/support/hanging_media.mjs';
import { Machine, WENT_ON } from './loopback/machine.mjs';
import { digits, figure } from './report/figures.mjs';

const ROUNDS = 5;
const DISK_BYTES = 16 << 20;
const BLOCK = 32768;
const HUNG = 32;

/** What hangs: a medium, and in which operation. */
const KINDS = [
  { title: 'ext4, frozen: writes', make: onFrozen('ext4'), operation: 'write' },
  { title: 'ext4, frozen: discards', make: onFrozen('ext4'), operation: 'discard' },
  { title: 'FUSE, server stopped: reads', make: onStoppedFuse, operation: 'read' },
  { title: 'FUSE, server stopped: flushes', make: onStoppedFuse, operation: 'flush' },
  { title: 'loop device, no answer: writes', make: onLoopOverFuse, operation: 'write' },
  { title: 'loop device, no answer: flushes', make: onLoopOverFuse, operation: 'flush' },
];

async function main() {
  const missing = missingForHanging();
  if (missing) throw new Error(`cannot be measured here: ${missing}`);
  const rounds = Number(process.argv[2] ?? ROUNDS);
  console.log(`ms of disk B beside ${HUNG} operations of disk A that hang, and their ratio to the`);
  console.log(`same without; medians of ${rounds} rounds\n`);
  for (const kind of KINDS) {
    const alone = [];
    const beside = [];
    for (let round = 0; round < rounds; round++) {
      alone.push(await measure({ ...kind, operation: undefined }));
      beside.push(await measure(kind));
    }
    console.log(kind.title);
    for (const step of Object.keys(alone[0] ?? {})) {
      const [usual, now] = [alone, beside].map((all) =>
        figure(all.map((times) => times[step] ?? 0)),
      );
      const times = ((now?.median ?? 0) / (usual?.median ?? 1)).toFixed(2);
      console.log(`  ${step.padEnd(18)}${digits(now?.median ?? 0).padStart(8)}  ×${times}`);
    }
  }
}

/**
 * @param {{ make: import('../test/support/hanging_media.mjs').MediumMaker,
 *   operation: string | undefined }} kind undefined: the same, and nothing hangs
 * @returns {Promise<Record<string, number>>} milliseconds by what was done
 */
async function measure({ make, operation }) {
  const machine = await Machine.start({ reactors: 1 });
  const medium = await make(DISK_BYTES);
  const a = (await machine.plug(medium.params)).frontend;
  const b = (await machine.plug(machine.image('b', DISK_BYTES))).frontend;
  await a.connect({ queues: 4 });
  await b.connect({ queues: 2 });
  await everything(b);
  let hung;
  if (operation) {
    medium.hang();
    hung = a.run(work(operation, { depth: HUNG / 4, bytes: HUNG * BLOCK }));
    await sleep(500);
  }
  const times = { ...(await everything(b)), ...(await livesOn(machine, b)) };
  medium.goOn();
  const { errors = 0 } = (await hung) ?? {};
  if (errors > 0) throw new Error(`${errors} of what hung failed`);
  await machine.close();
  await medium.remove();
  return times;
}

/**
 * @param {string} operation
 * @param {{ depth?: number, bytes?: number, length?: number }} [given]
 */
function work(operation, given = {}) {
  const length = 2 << 20;
  const region = { offset: 0, length, bytes: 16 * length, seed: 9 };
  return { operation, blockBytes: BLOCK, depth: 8, ...region, ...given };
}

/** @param {() => Promise<unknown>} step @returns {Promise<number>} ms */
async function timed(step) {
  const began = performance.now();
  await step();
  return performance.now() - began;
}

/** @param {import('../dist/platform/loopback_frontend.js').LoopbackFrontend} guest */
async function everything(guest) {
  /** @type {Record<string, number>} */
  const times = {};
  for (const operation of ['write', 'read', 'flush', 'discard', 'barrier']) {
    times[operation] = await timed(async () => {
      const { errors } = await guest.run(work(operation));
      if (errors > 0) throw new Error(`${errors} errors of ${operation}`);
    });
  }
  return times;
}

/**
 * A third disk comes and goes, and what an operator does to the daemon, until B is served again.
 * @param {Machine} machine
 * @param {import('../dist/platform/loopback_frontend.js').LoopbackFrontend} b
 */
async function livesOn(machine, b) {
  const c = await machine.plug(machine.image('c', DISK_BYTES));
  const attach = await timed(() => c.frontend.connect());
  const detach = await timed(() => machine.unplug(c));
  const again = async (/** @type {NodeJS.Signals} */ signal) => {
    const began = performance.now();
    await machine.killDaemon(signal);
    const started = machine.startDaemon(WENT_ON);
    const { errors } = await b.run(work('read'));
    if (errors > 0) throw new Error('a read failed');
    const served = performance.now() - began;
    await started;
    return served;
  };
  const restart = await again('SIGTERM');
  const kill = await again('SIGKILL');
  return { attach, detach, restart, 'SIGKILL and start': kill };
}

await main();
