// SPDX-License-Identifier: Apache-2.0
// What a monitor reads of a disk without asking the daemon.
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { LoopbackMachine, MIB, workload } from '../support/loopback_machine.ts';

let machine: LoopbackMachine;
afterEach(() => machine.close());

function pageFile(queue: number): string {
  return path.join(machine.config.runtimeDir, 'vbds', `vbd3-1-51712.queue-${queue}.stats`);
}

/** The file's first line says at which byte each 64-bit counter is. */
function readPage(queue: number): { counter(name: string): number; reads(): number } {
  const page = readFileSync(pageFile(queue));
  const index = JSON.parse(page.toString('latin1', 0, page.indexOf('\n')));
  const word = (offset: number) => Number(page.readBigUInt64LE(offset));
  return {
    counter: (name) => word(index.counters[name]),
    reads: () => word(index.latency.read + index.buckets * 8),
  };
}

test('each queue has a page with its counters and latencies until the disk is gone', async () => {
  machine = await LoopbackMachine.start();
  const guest = await machine.plug({ params: 'null:1073741824' });
  await guest.frontend.connect({ queues: 2 });
  const { requests } = await guest.frontend.run(workload('read', { length: 4 * MIB }));
  expect(requests).toBeGreaterThan(0);
  const pages = [0, 1].map(readPage);
  const sum = (values: number[]) => values.reduce((a, b) => a + b, 0);
  expect(sum(pages.map((page) => page.counter('reads')))).toBe(requests);
  expect(sum(pages.map((page) => page.counter('readBytes')))).toBe(4 * MIB);
  expect(sum(pages.map((page) => page.reads()))).toBe(requests);
  await machine.unplug(guest);
  expect([0, 1].map(pageFile).filter(existsSync)).toEqual([]);
});
