// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { XenstoreClient } from '../../src/xenstore/client.ts';
import type { XenstoreCase } from './xenstore_cases.ts';

/** A watch's calls so far. */
async function record(client: XenstoreClient, path: string) {
  const seen: string[] = [];
  const watch = await client.watch(path, (changed) => seen.push(changed));
  await until(() => seen.length > 0, `the first call of the watch on ${path}`);
  seen.length = 0;
  return { seen, watch };
}

export async function until(met: () => boolean, what: string): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!met()) {
    if (Date.now() > deadline) assert.fail(`waited 10 s in vain for ${what}`);
    await sleep(2);
  }
}

export const watchCases: XenstoreCase[] = [
  {
    name: 'a watch fires once at registration with its own path, whether the node is there or not',
    async run({ root, first }) {
      for (const path of [root, `${root}/none`]) {
        const seen: string[] = [];
        await first.watch(path, (changed) => seen.push(changed));
        await until(() => seen.length > 0, 'the first call');
        assert.deepEqual(seen, [path]);
        await first.mkdir(root);
      }
    },
  },
  {
    name: 'a watch fires for changes at and below its path, with the path that changed',
    async run({ root, first, second }) {
      const { seen } = await record(first, `${root}/a`);
      await second.write(`${root}/a`, '1');
      await second.write(`${root}/a/b/c`, '1');
      await second.mkdir(`${root}/a/d`);
      await second.setPermissions(`${root}/a/d`, [{ domid: 0, access: 'r' }]);
      await second.remove(`${root}/a/b`);
      await until(() => seen.includes(`${root}/a/b`), 'the removal');
      const paths = new Set(seen);
      for (const path of ['/a', '/a/b/c', '/a/d', '/a/b']) {
        assert.ok(paths.has(root + path), `${path} in ${seen.join(' ')}`);
      }
    },
  },
  {
    name: 'a watch does not fire for neighbours',
    async run({ root, first, second }) {
      const { seen } = await record(first, `${root}/a`);
      await second.write(`${root}/ab`, '1');
      await second.write(`${root}/b/a`, '1');
      await second.write(root, '1');
      await second.write(`${root}/a/last`, '1');
      await until(() => seen.includes(`${root}/a/last`), 'the change below');
      assert.deepEqual(seen, [`${root}/a/last`]);
    },
  },
  {
    name: 'a watch fires for its node when a parent is removed',
    async run({ root, first, second }) {
      await first.write(`${root}/a/b/c`, '1');
      const { seen } = await record(first, `${root}/a/b/c`);
      await second.remove(`${root}/a`);
      await until(() => seen.length > 0, 'the removal');
      assert.deepEqual(new Set(seen), new Set([`${root}/a/b/c`]));
    },
  },
  {
    name: 'the value read in a callback is not older than the change',
    async run({ root, first, second }) {
      const node = `${root}/counter`;
      let last: string | undefined;
      const readAgain = async () => {
        last = await first.read(node);
      };
      let reading = Promise.resolve();
      const watch = await first.watch(node, () => {
        reading = readAgain();
      });
      for (let count = 1; count <= 100; count++) await second.write(node, String(count));
      await until(() => last === '100', 'a call after the last change');
      await watch.remove();
      await reading;
    },
  },
  {
    name: 'each of several watches on one path fires, and a removed one no more',
    async run({ root, first, second }) {
      const removed = await record(first, root);
      const kept = await record(first, root);
      await second.write(root, '1');
      await until(() => removed.seen.length > 0 && kept.seen.length > 0, 'both');
      await second.write(`${root}/late`, '1');
      await removed.watch.remove();
      removed.seen.length = 0;
      await removed.watch.remove();
      await second.write(`${root}/later`, '1');
      await until(() => kept.seen.includes(`${root}/later`), 'the other watch');
      assert.deepEqual(removed.seen, []);
    },
  },
  {
    name: 'a watch may be removed from its own callback',
    async run({ root, first, second }) {
      let calls = 0;
      const watch = await first.watch(root, () => {
        if (++calls === 2) void watch.remove();
      });
      await until(() => calls === 1, 'the first call');
      await second.write(`${root}/a`, '1');
      await until(() => calls === 2, 'the second call');
      const { seen } = await record(first, root);
      await second.write(`${root}/b`, '1');
      await until(() => seen.length > 0, 'another watch');
      assert.equal(calls, 2);
    },
  },
  {
    name: 'special events can be watched, bad paths cannot',
    async run({ first }) {
      const { watch } = await record(first, '@releaseDomain');
      await watch.remove();
      await assert.rejects(first.watch('/a//b', assert.fail), { code: 'EINVAL' });
    },
  },
];
