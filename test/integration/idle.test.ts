// SPDX-License-Identifier: Apache-2.0
// Disks that nobody uses cost nothing.
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import { LoopbackMachine, workload } from '../support/loopback_machine.ts';

const DISKS = 100;
const IDLE_MS = 10_000;

let machine: LoopbackMachine;
afterEach(() => machine.close());

test(`${DISKS} connected disks cause no wake-up in ${IDLE_MS / 1000} s`, async () => {
  machine = await LoopbackMachine.start();
  const guests = await Promise.all(
    Array.from({ length: DISKS }, (_, i) => machine.plug({ params: 'null:8388608', domid: i + 1 })),
  );
  await Promise.all(
    guests.map(async ({ frontend }) => {
      await frontend.connect({ queues: 1 });
      const { errors } = await frontend.run(workload('randread', { blockBytes: 4096 }));
      expect(errors).toBe(0);
    }),
  );
  // Until the last reactor has looked for more, in vain.
  await sleep(1000);
  const before = wakeups();
  await sleep(IDLE_MS);
  expect(wakeups()).toBe(before);
}, 60_000);

function wakeups(): number {
  const { reactors } = machine.platform.datapath.counters();
  return reactors.reduce((sum, reactor) => sum + reactor.wakeups, 0);
}
