// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import type { XenstoreClient, XenstoreRequests } from '../../src/xenstore/client.ts';
import type { XenstoreCase } from './xenstore_cases.ts';
import { until } from './xenstore_watch_cases.ts';

async function increment(client: XenstoreClient, node: string): Promise<void> {
  await client.transaction(async (requests) => {
    const count = Number(await requests.read(node));
    await requests.write(node, String(count + 1));
  });
}

export const transactionCases: XenstoreCase[] = [
  {
    name: 'a transaction sees its own changes, others only after the commit',
    async run({ root, first, second }) {
      await first.write(`${root}/old`, '1');
      const result = await first.transaction(async (requests) => {
        await requests.write(`${root}/new/leaf`, '2');
        await requests.remove(`${root}/old`);
        assert.equal(await requests.read(`${root}/new/leaf`), '2');
        assert.equal(await requests.read(`${root}/old`), undefined);
        assert.deepEqual(await requests.directory(root), ['new']);
        assert.equal(await second.read(`${root}/new/leaf`), undefined);
        assert.equal(await second.read(`${root}/old`), '1');
        return 'result';
      });
      assert.equal(result, 'result');
      assert.equal(await second.read(`${root}/new/leaf`), '2');
      assert.deepEqual(await second.directory(root), ['new']);
    },
  },
  {
    name: 'what a transaction throws aborts it and is thrown',
    async run({ root, first }) {
      const attempt = first.transaction(async (requests) => {
        await requests.write(root, '1');
        throw new TypeError('changed my mind');
      });
      await assert.rejects(attempt, new TypeError('changed my mind'));
      assert.equal(await first.read(root), undefined);
    },
  },
  {
    name: 'a transaction runs again when another client changed what it read',
    async run({ root, first, second }) {
      await first.write(`${root}/read`, 'old');
      let runs = 0;
      await first.transaction(async (requests) => {
        const seen = await requests.read(`${root}/read`);
        if (++runs === 1) await second.write(`${root}/read`, 'new');
        await requests.write(`${root}/copy`, String(seen));
      });
      assert.equal(runs, 2);
      assert.equal(await first.read(`${root}/copy`), 'new');
    },
  },
  {
    name: 'a transaction does not mind changes elsewhere',
    async run({ root, first, second }) {
      await first.write(`${root}/a/mine`, '1');
      await first.write(`${root}/b/other`, '1');
      let runs = 0;
      await first.transaction(async (requests) => {
        runs++;
        await requests.write(`${root}/a/mine`, '2');
        await second.write(`${root}/b/other`, '2');
      });
      assert.equal(runs, 1);
    },
  },
  {
    name: 'a transaction that always meets a conflict ends with EAGAIN after 16 runs',
    async run({ root, first, second }) {
      await first.write(root, '0');
      let runs = 0;
      const attempt = first.transaction(async (requests) => {
        await requests.read(root);
        await second.write(root, String(++runs));
        await requests.write(root, 'mine');
      });
      await assert.rejects(attempt, { code: 'EAGAIN' });
      assert.equal(runs, 16);
      assert.equal(await first.read(root), '16');
    },
  },
  {
    name: 'concurrent transactions lose no update',
    async run({ root, first, second }) {
      const node = `${root}/counter`;
      await first.write(node, '0');
      const five = async (client: XenstoreClient) => {
        for (let count = 0; count < 5; count++) await increment(client, node);
      };
      await Promise.all([five(first), five(second), five(first)]);
      assert.equal(await first.read(node), '15');
    },
  },
  {
    name: 'a transaction fires watches at its commit, and none when it aborts',
    async run({ root, first, second }) {
      await first.mkdir(root);
      const seen: string[] = [];
      await second.watch(root, (path) => seen.push(path));
      await until(() => seen.length > 0, 'the first call');
      const abort = first.transaction(async (requests) => {
        await requests.write(`${root}/aborted`, '1');
        throw new Error('abort');
      });
      await assert.rejects(abort, /abort/);
      await first.transaction(async (requests) => {
        await requests.write(`${root}/committed`, '1');
        await second.read(root);
        assert.deepEqual(seen, [root]);
      });
      await until(() => seen.length > 1, 'the commit');
      assert.deepEqual(seen, [root, `${root}/committed`]);
    },
  },
  {
    name: 'permissions change inside a transaction',
    async run({ root, first }) {
      await first.transaction(async (requests) => {
        await requests.mkdir(root);
        await requests.setPermissions(root, [{ domid: 0, access: 'r' }]);
        assert.deepEqual(await requests.getPermissions(root), [{ domid: 0, access: 'r' }]);
      });
      assert.deepEqual(await first.getPermissions(root), [{ domid: 0, access: 'r' }]);
    },
  },
  {
    name: 'requests of a transaction that is over fail',
    async run({ root, first }) {
      let kept: XenstoreRequests | undefined;
      await first.transaction(async (requests) => {
        kept = requests;
      });
      await assert.rejects(async () => kept?.read(root), { code: 'EINVAL' });
    },
  },
];
