// SPDX-License-Identifier: Apache-2.0
// Disks that nobody uses cost nothing.
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, test, vi } from 'vitest';
import { LoopbackMachine, type TestGuest, workload } from '../support/loopback_machine.ts';

const DISKS = 100;
const AT_ONCE = 10;
const IDLE_MS = 10_000;
vi.setConfig({ hookTimeout: 60_000 });

let machine: LoopbackMachine;
afterEach(() => machine.close());

test(`${DISKS} connected disks cause no wake-up in ${IDLE_MS / 1000} s`, async () => {
  machine = await LoopbackMachine.start();
  const guests = await Promise.all(
    Array.from({ length: DISKS }, (_, i) => machine.plug({ params: 'null:8388608', domid: i + 1 })),
  );
  // A slow machine does not connect all of them within the time that a guest waits.
  for (let first = 0; first < DISKS; first += AT_ONCE) {
    await Promise.all(guests.slice(first, first + AT_ONCE).map(connectAndRead));
  }
  // Until the last reactor has looked for more, in vain.
  await sleep(1000);
  const before = wakeups();
  await sleep(IDLE_MS);
  expect(wakeups()).toBe(before);
}, 180_000);

async function connectAndRead({ frontend }: TestGuest): Promise<void> {
  await frontend.connect({ queues: 1 });
  const { errors } = await frontend.run(workload('randread', { blockBytes: 4096 }));
  expect(errors).toBe(0);
}

function wakeups(): number {
  const { reactors } = machine.platform.datapath.counters();
  return reactors.reduce((sum, reactor) => sum + reactor.wakeups, 0);
}
