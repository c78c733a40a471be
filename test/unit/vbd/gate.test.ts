// SPDX-License-Identifier: Apache-2.0
import { expect, test } from 'vitest';
import { Gate } from '../../../src/vbd/gate.ts';

const tick = () => new Promise((resolve) => setTimeout(resolve, 1));

test('lets so many in, the others in their order', async () => {
  const gate = new Gate(2, 1000);
  const inside: number[] = [];
  const ends: (() => void)[] = [];
  const runs = [0, 1, 2, 3].map((index) =>
    gate.run(async () => {
      inside.push(index);
      await new Promise<void>((resolve) => ends.push(resolve));
    }),
  );
  await tick();
  expect(inside).toEqual([0, 1]);
  ends[1]?.();
  await tick();
  expect(inside).toEqual([0, 1, 2]);
  for (const end of ends) end();
  await tick();
  for (const end of ends) end();
  await Promise.all(runs);
  expect(inside).toEqual([0, 1, 2, 3]);
});

test('a step that fails gives its place up, and its error on', async () => {
  const gate = new Gate(1, 1000);
  await expect(gate.run(() => Promise.reject(new Error('no')))).rejects.toThrow('no');
  expect(await gate.run(async () => 7)).toBe(7);
  await gate.idle();
});

test('a step that hangs stops the others for a while only', async () => {
  const gate = new Gate(1, 5);
  void gate.run(() => new Promise(() => {}));
  expect(await gate.run(async () => 7)).toBe(7);
});
