// SPDX-License-Identifier: Apache-2.0
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Turns } from '../../../src/vbd/turns.ts';

test('marks coalesce while a reconcile waits; one that comes during it makes another', async () => {
  let runs = 0;
  const turns: Turns = new Turns(async () => {
    runs++;
    if (runs === 1) turns.mark();
    await sleep(1);
  });
  turns.mark();
  turns.mark();
  turns.mark();
  expect(turns.isMarked).toBe(true);
  await turns.until(() => runs === 2);
  await sleep(5);
  expect(runs).toBe(2);
});

test('one thing at a time, in order, and a failed step stops nothing', async () => {
  const events: string[] = [];
  const turns = new Turns(async () => {
    events.push('reconcile');
  });
  const step = (name: string) => async () => {
    events.push(`${name} begins`);
    await sleep(2);
    events.push(`${name} ends`);
    if (name === 'a') throw new Error('a failed');
    return name;
  };
  const a = turns.exclusive(step('a'));
  turns.mark();
  const b = turns.exclusive(step('b'));
  await expect(a).rejects.toThrow('a failed');
  expect(await b).toBe('b');
  expect(events).toEqual(['a begins', 'a ends', 'reconcile', 'b begins', 'b ends']);
});

test('a flood of marks is slowed down', async () => {
  let runs = 0;
  const turns = new Turns(async () => {
    runs++;
  });
  const deadline = performance.now() + 200;
  while (performance.now() < deadline) {
    turns.mark();
    await sleep(0);
  }
  turns.end();
  // The burst of 100 and 50 per second.
  expect(runs).toBeLessThanOrEqual(115);
});

test('after the end nothing begins and nobody waits', async () => {
  let runs = 0;
  const turns = new Turns(async () => {
    runs++;
  });
  const waited = turns.until(() => false);
  turns.mark();
  turns.markIn(1);
  turns.end();
  await waited;
  turns.mark();
  turns.markIn(1);
  await sleep(10);
  expect(runs).toBe(0);
});

test('patience has an end', async () => {
  await new Turns(async () => {}).until(() => false, 5);
});

test('only the last timer counts, and a cancelled one does not', async () => {
  let runs = 0;
  const turns = new Turns(async () => {
    runs++;
  });
  turns.markIn(1);
  turns.markIn(2);
  await turns.until(() => runs === 1);
  turns.markIn(1);
  turns.cancelTimer();
  await sleep(10);
  expect(runs).toBe(1);
});
