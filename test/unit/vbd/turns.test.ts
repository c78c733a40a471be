// SPDX-License-Identifier: Apache-2.0
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { guestPace, Turns } from '../../../src/vbd/turns.ts';

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

async function flood(turns: readonly Turns[]): Promise<void> {
  const deadline = performance.now() + 200;
  while (performance.now() < deadline) {
    for (const one of turns) one.markByGuest();
    await sleep(0);
  }
  for (const one of turns) one.end();
}

test('a flood of marks by a guest is slowed down', async () => {
  let runs = 0;
  const turns = new Turns(async () => {
    runs++;
  });
  await flood([turns]);
  // The burst of 100 and 50 per second.
  expect(runs).toBeGreaterThan(90);
  expect(runs).toBeLessThanOrEqual(115);
});

test('all disks of a guest share its pace', async () => {
  let runs = 0;
  const pace = guestPace();
  const look = async () => {
    runs++;
  };
  await flood(Array.from({ length: 8 }, () => new Turns(look, pace)));
  expect(runs).toBeLessThanOrEqual(122);
});

test('whoever else marks does not wait for what a guest has used up', async () => {
  let runs = 0;
  const pace = guestPace();
  const guests = new Turns(async () => {}, pace);
  const turns = new Turns(async () => {
    runs++;
  }, pace);
  while (pace.take());
  guests.markByGuest();
  turns.markByGuest();
  const started = performance.now();
  turns.mark();
  await turns.until(() => runs === 1);
  expect(performance.now() - started).toBeLessThan(15);
  guests.end();
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

test('the earliest timer counts, and none outlives a reconcile', async () => {
  let runs = 0;
  const turns = new Turns(async () => {
    runs++;
  });
  turns.markIn(60_000);
  turns.markIn(1);
  turns.markIn(30);
  await turns.until(() => runs === 1);
  await sleep(60);
  expect(runs).toBe(1);
  turns.markIn(1);
  turns.end();
  await sleep(10);
  expect(runs).toBe(1);
});
