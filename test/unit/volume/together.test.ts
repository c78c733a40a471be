// SPDX-License-Identifier: Apache-2.0
import { expect, test } from 'vitest';
import { TogetherReads } from '../../../src/volume/together.ts';
import type { Properties } from '../../../src/zfs/tables.ts';
import { ZfsError } from '../../../src/zfs/zfs_error.ts';

/** A ZFS whose commands end when they are told to. */
function slowZfs(missing: readonly string[] = []) {
  const commands: { datasets: readonly string[]; end: (error?: Error) => void }[] = [];
  const getSeveral = (datasets: readonly string[]) =>
    new Promise<Map<string, Properties>>((resolve, reject) => {
      const end = (error?: Error) => {
        const lost = datasets.find((dataset) => missing.includes(dataset));
        if (error) reject(error);
        else if (lost) reject(ZfsError.of('zfs', ['get'], `'${lost}': dataset does not exist`));
        else resolve(new Map(datasets.map((dataset) => [dataset, of(dataset)])));
      };
      commands.push({ datasets, end });
    });
  return { commands, reads: new TogetherReads({ getSeveral }, ['type']) };
}

function of(dataset: string): Properties {
  return new Map([['type', { value: dataset, source: 'none' }]]);
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

test('whoever comes while a command runs shares the next one, which begins later', async () => {
  const { commands, reads } = slowZfs();
  const first = reads.read('a');
  const later = ['b', 'c', 'b'].map((name) => reads.read(name));
  expect(commands.map(({ datasets }) => datasets)).toEqual([['a']]);
  commands[0]?.end();
  expect((await first)?.get('type')?.value).toBe('a');
  await turn();
  expect(commands[1]?.datasets).toEqual(['b', 'c']);
  commands[1]?.end();
  const told = (await Promise.all(later)).map((found) => found?.get('type')?.value);
  expect(told).toEqual(['b', 'c', 'b']);
});

test('one that is not there fails alone', async () => {
  const { commands, reads } = slowZfs(['b']);
  const first = reads.read('a');
  const later = ['b', 'c'].map((name) => reads.read(name));
  commands[0]?.end();
  await first;
  const settled = Promise.allSettled(later);
  while (commands.length < 4) {
    commands.at(-1)?.end();
    await turn();
  }
  for (const { end } of commands) end();
  const [b, c] = await settled;
  expect([b?.status, c?.status]).toEqual(['rejected', 'fulfilled']);
});

test('a pool that hangs is not asked once more for each of them', async () => {
  const { commands, reads } = slowZfs();
  const all = Promise.allSettled(['a', 'b', 'c'].map((name) => reads.read(name)));
  const hangs = () => new ZfsError('timeout', 'zfs', ['get'], 'no end within 30 s');
  commands[0]?.end(hangs());
  await turn();
  commands[1]?.end(hangs());
  expect((await all).map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
  expect(commands).toHaveLength(2);
  // And the next one is asked for again.
  const next = reads.read('d');
  commands[2]?.end();
  expect((await next)?.get('type')?.value).toBe('d');
});
