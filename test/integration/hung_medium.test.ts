// SPDX-License-Identifier: Apache-2.0
// A medium that hangs costs its own disk, and nothing else: neither another guest's requests nor
// the daemon's end, its next start and what it takes over.
import { execFileSync, spawnSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { LoopbackWorkload } from '../../src/datapath/binding.ts';
import { detachVbd } from '../../src/platform/loopback_toolstack.ts';
// @ts-expect-error: JavaScript, which the benchmarks use as well
import * as media from '../support/hanging_media.mjs';
import { timed, workload } from '../support/loopback_machine.ts';
import { type RestartGuest, RestartMachine } from '../support/restart_machine.ts';

interface HangingMedium {
  readonly params: string;
  hang(): void;
  goOn(): void;
  remove(): Promise<void>;
}

const DISK_BYTES = 16 << 20;
/** As a user would call hung, on the busiest of machines. */
const SOON_MS = 15_000;

const EVERYTHING = ['write', 'flush', 'discard', 'barrier', 'write', 'verify'] as const;

let machine: RestartMachine;
let medium: HangingMedium | undefined;

beforeEach(async () => {
  machine = await RestartMachine.start();
});

afterEach(async () => {
  medium?.goOn();
  await machine.close();
  await medium?.remove();
  medium = undefined;
});

const missing = media.missingForHanging();
const KINDS: [
  string,
  (bytes: number) => Promise<HangingMedium>,
  LoopbackWorkload['operation'][],
][] = [
  ['a file on a frozen ext4', media.onFrozen('ext4'), ['write', 'discard', 'flush']],
  ['a file whose FUSE server is stopped', media.onStoppedFuse, ['read', 'write', 'flush']],
  ['a block device that does not answer', media.onLoopOverFuse, ['read', 'write', 'flush']],
];

describe.each(KINDS)('%s', (_, make, operations) => {
  it.skipIf(missing).each(operations)(
    'with a %s under way: others are served, and go on over SIGKILL, restart and upgrade',
    async (operation) => {
      medium = await make(DISK_BYTES);
      const a = await machine.plug(DISK_BYTES, medium.params);
      const b = await machine.plug(DISK_BYTES);
      await a.frontend.connect({ queues: 4 });
      await b.frontend.connect({ queues: 2 });
      await a.frontend.run(workload('write', { length: DISK_BYTES, seed: 5 }));
      medium.hang();
      const hung = a.frontend.run(hanging(operation));
      await sleep(500);
      await isServed(b);
      await soon(machine.stopDaemon('SIGKILL'), 'the daemon dies');
      await soon(machine.startDaemon(), 'the next one starts');
      await isServed(b);
      await soon(machine.stopDaemon('SIGTERM'), 'the daemon ends');
      await soon(machine.startDaemon(), 'the next one starts');
      await isServed(b);
      const old = await soon(machine.upgradeDaemon(), 'it is upgraded');
      expect(old).toMatchObject({ status: 0 });
      await isServed(b);
      const c = await machine.plug(DISK_BYTES);
      await soon(c.frontend.connect(), 'a disk is attached');
      await isServed(c);
      medium.goOn();
      expect(await soon(hung, 'what hung goes on', 60_000)).toMatchObject({ errors: 0 });
      await isServed(a, ['write', 'flush', 'barrier', 'verify']);
    },
    180_000,
  );
});

describe('a device that has written nothing back when it hangs', () => {
  it.skipIf(missing)(
    'keeps no daemon from ending, and no next one from starting',
    async () => {
      const device: HangingMedium = await media.onLoopOverFuse(DISK_BYTES);
      medium = device;
      const a = await machine.plug(DISK_BYTES, device.params);
      const b = await machine.plug(DISK_BYTES);
      for (const { frontend } of [a, b]) await frontend.connect({ queues: 2 });
      device.hang();
      writeBehind(device);
      for (const signal of ['SIGKILL', 'SIGTERM', 'SIGKILL', 'SIGTERM'] as const) {
        await soon(machine.stopDaemon(signal), `the daemon ends by ${signal}`);
        await soon(machine.startDaemon(), 'the next one starts');
        await isServed(b);
      }
      await soon(machine.upgradeDaemon(), 'it is upgraded');
      await isServed(b);
      device.goOn();
      await isServed(a, ['write', 'flush', 'verify']);
    },
    60_000,
  );

  it.skipIf(missing)(
    'is let go of by another process, also where its worker is dead and none can be started',
    async () => {
      const device: HangingMedium = await media.onLoopOverFuse(DISK_BYTES);
      medium = device;
      const a = await machine.plug(DISK_BYTES, device.params);
      await a.frontend.connect();
      const worker = workerOf(daemonPid());
      device.hang();
      writeBehind(device);
      const limit = (files: number) =>
        execFileSync('prlimit', ['--pid', `${daemonPid()}`, `--nofile=${files}:`]);
      limit(3);
      process.kill(Number(worker), 'SIGKILL');
      await expect.poll(() => workerOf(daemonPid())).toBe('');
      const closed = a.frontend.closedByBackend().catch(() => {});
      const detached = detachVbd(machine.xenstore, a.paths).catch(() => {});
      await Promise.race([Promise.all([closed, detached]), sleep(3000)]);
      limit(4096);
      const b = await machine.plug(DISK_BYTES);
      await soon(b.frontend.connect(), 'a disk is attached');
      await isServed(b);
      device.goOn();
      await detached;
    },
    60_000,
  );
});

/** Through the page cache, as a host's other programs do: whoever closes it last waits for this. */
function writeBehind({ params }: HangingMedium): void {
  const to = [`of=${params.replace('aio:', '')}`, 'conv=notrunc', 'status=none'];
  execFileSync('dd', ['if=/dev/zero', 'bs=64k', 'count=32', ...to]);
}

function daemonPid(): number {
  return machine.daemon.started.child.pid ?? 0;
}

function workerOf(daemon: number): string {
  const { stdout } = spawnSync('pgrep', ['-P', `${daemon}`, 'rd-worker'], { encoding: 'utf8' });
  return stdout.trim();
}

function hanging(operation: LoopbackWorkload['operation']): LoopbackWorkload {
  const how = { depth: 8, blockBytes: 32768, length: DISK_BYTES };
  if (operation === 'flush') return timed(operation, 1000, how);
  return workload(operation, { ...how, bytes: 32 * 32768 });
}

/** Everything a guest may ask for. */
async function isServed(
  { frontend }: RestartGuest,
  operations: readonly LoopbackWorkload['operation'][] = EVERYTHING,
): Promise<void> {
  for (const operation of operations) {
    const how = { length: 2 << 20, blockBytes: 32768, seed: 9 };
    const isFlush = operation === 'flush';
    const done = frontend.run(isFlush ? timed('flush', 100, how) : workload(operation, how));
    expect(await soon(done, operation)).toMatchObject({ errors: 0, mismatches: 0 });
  }
}

async function soon<T>(work: Promise<T>, what: string, ms = SOON_MS): Promise<T> {
  const late = sleep(ms, undefined, { ref: false }).then(() => {
    throw new Error(`not within ${ms} ms: ${what}`);
  });
  return Promise.race([work, late]);
}
