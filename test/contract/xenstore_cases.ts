// SPDX-License-Identifier: Apache-2.0
// What every XenstoreClient of a privileged domain promises, as plain functions: vitest runs them
// through xenstore.ts, xenstore_live.ts runs them against a living xenstored where there is no
// vitest.
import assert from 'node:assert/strict';
import type { Permission, XenstoreClient } from '../../src/xenstore/client.ts';
import { transactionCases } from './xenstore_transaction_cases.ts';
import { watchCases } from './xenstore_watch_cases.ts';

export interface XenstoreBench {
  /**
   * An absolute path of this case's own; nothing is there yet, and what is left there is removed.
   */
  readonly root: string;
  readonly first: XenstoreClient;
  readonly second: XenstoreClient;
  /** One more client of the same store; closed after the case. */
  connect(): Promise<XenstoreClient>;
}

export interface XenstoreCase {
  readonly name: string;
  run(bench: XenstoreBench): Promise<void>;
}

/** Runs one case with clients of its own below `prefix`, and leaves nothing behind. */
export async function runXenstoreCase(
  connect: () => Promise<XenstoreClient>,
  prefix: string,
  { run }: XenstoreCase,
): Promise<void> {
  const clients: XenstoreClient[] = [];
  const connectOne = async () => {
    const client = await connect();
    clients.push(client);
    return client;
  };
  const root = `${prefix}/${process.pid}-${Math.random().toString(36).slice(2)}`;
  try {
    const first = await connectOne();
    await run({ root, first, second: await connectOne(), connect: connectOne });
  } finally {
    await (await connectOne()).remove(root);
    for (const client of clients) await client.close();
  }
}

const nodeCases: XenstoreCase[] = [
  {
    name: 'reads what was written, by any client, and makes parents with empty values',
    async run({ root, first, second }) {
      await first.write(`${root}/a/b/c`, 'value');
      assert.equal(await second.read(`${root}/a/b/c`), 'value');
      assert.equal(await second.read(`${root}/a/b`), '');
      await second.write(`${root}/a/b/c`, '');
      assert.equal(await first.read(`${root}/a/b/c`), '');
    },
  },
  {
    name: 'keeps values with spaces, newlines, NUL bytes and beyond ASCII',
    async run({ root, first }) {
      for (const value of ['two words', 'two\nlines', 'a\0b', 'trailing\0', 'Grüße €', ' ']) {
        await first.write(root, value);
        assert.equal(await first.read(root), value);
      }
    },
  },
  {
    name: 'keeps bytes that are no text as they are, in words of src/text.ts',
    async run({ root, first, second }) {
      for (const value of ['/srv/d\udce9j\udce0.img', '\udcff', 'ä\udcc3']) {
        await first.write(root, value);
        assert.equal(await second.read(root), value);
      }
    },
  },
  {
    name: 'answers undefined for what is not there, and removes it without complaint',
    async run({ root, first }) {
      assert.equal(await first.read(`${root}/none`), undefined);
      assert.equal(await first.directory(`${root}/none`), undefined);
      await first.remove(`${root}/none/below`);
      await first.mkdir(root);
      await first.remove(`${root}/none`);
    },
  },
  {
    name: 'lists children, and an empty list for a leaf',
    async run({ root, first }) {
      await first.write(`${root}/b`, '');
      await first.write(`${root}/a/below`, '');
      assert.deepEqual((await first.directory(root))?.sort(), ['a', 'b']);
      assert.deepEqual(await first.directory(`${root}/b`), []);
    },
  },
  {
    name: 'lists more children than fit into one message, inside a transaction too',
    async run({ root, first, second }) {
      const names = Array.from({ length: 300 }, (_, index) => `a-child-with-a-long-name-${index}`);
      await Promise.all(names.map((name) => first.write(`${root}/${name}`, '')));
      assert.deepEqual((await second.directory(root))?.sort(), names.sort());
      const listed = await second.transaction((requests) => requests.directory(root));
      assert.deepEqual(listed?.sort(), names);
    },
  },
  {
    name: 'mkdir leaves an existing node as it is',
    async run({ root, first }) {
      await first.mkdir(`${root}/a`);
      assert.equal(await first.read(`${root}/a`), '');
      await first.write(`${root}/a`, 'value');
      await first.mkdir(`${root}/a`);
      assert.equal(await first.read(`${root}/a`), 'value');
    },
  },
  {
    name: 'removes a node with everything below, and from the list of its parent',
    async run({ root, first, second }) {
      await first.write(`${root}/a/b/c`, '1');
      await first.write(`${root}/ab`, '1');
      await first.remove(`${root}/a`);
      assert.equal(await second.read(`${root}/a/b/c`), undefined);
      assert.deepEqual(await second.directory(root), ['ab']);
    },
  },
  {
    name: 'refuses a path or value it could not send, and goes on working',
    async run({ root, first }) {
      for (const path of ['', '/a/', '/a//b', '/a\0b', '/a b', `/${'x'.repeat(3072)}`]) {
        await assert.rejects(first.read(path), { code: 'EINVAL' }, JSON.stringify(path));
        await assert.rejects(first.write(path, ''), { code: 'EINVAL' }, JSON.stringify(path));
      }
      const space = 4080 - root.length - 1;
      await assert.rejects(first.write(root, 'x'.repeat(space + 1)), { code: 'E2BIG' });
      await assert.rejects(first.write(root, 'ä'.repeat(space / 2 + 1)), { code: 'E2BIG' });
      await first.write(root, 'x'.repeat(space));
      assert.equal((await first.read(root))?.length, space);
    },
  },
  {
    name: 'answers many requests at once, each with its own answer',
    async run({ root, first }) {
      const numbers = Array.from({ length: 200 }, (_, index) => index);
      await Promise.all(numbers.map((number) => first.write(`${root}/${number}`, `${number}`)));
      const values = await Promise.all(numbers.map((number) => first.read(`${root}/${number}`)));
      assert.deepEqual(values, numbers.map(String));
    },
  },
  {
    name: 'tells the home of a domain',
    async run({ first }) {
      assert.equal(await first.domainPath(0), '/local/domain/0');
      assert.equal(await first.domainPath(32751), '/local/domain/32751');
      await assert.rejects(first.domainPath(32752), RangeError);
    },
  },
  {
    name: 'fails every request after close',
    async run({ root, connect }) {
      const client = await connect();
      await client.close();
      await assert.rejects(client.read(root), { code: 'ECANCELED' });
      await assert.rejects(client.watch(root, assert.fail), { code: 'ECANCELED' });
      await assert.rejects(
        client.transaction(async () => assert.fail()),
        { code: 'ECANCELED' },
      );
      await client.close();
    },
  },
];

const permissionCases: XenstoreCase[] = [
  {
    name: 'keeps permissions and gives them to nodes made below',
    async run({ root, first, second }) {
      // xenstored takes domains that live only, and domain 0 is the only one sure to.
      const permissions: Permission[] = (['w', 'n', 'r', 'b'] as const).map((access) => {
        return { domid: 0, access };
      });
      await first.write(root, '');
      await first.setPermissions(root, permissions);
      assert.deepEqual(await second.getPermissions(root), permissions);
      await first.write(`${root}/a/b`, '');
      assert.deepEqual(await second.getPermissions(`${root}/a/b`), permissions);
    },
  },
  {
    name: 'has no permissions for what is not there',
    async run({ root, first }) {
      await assert.rejects(first.getPermissions(root), { code: 'ENOENT' });
      const attempt = first.setPermissions(root, [{ domid: 0, access: 'n' }]);
      await assert.rejects(attempt, { code: 'ENOENT' });
    },
  },
];

export const xenstoreCases: readonly XenstoreCase[] = [
  ...nodeCases,
  ...permissionCases,
  ...watchCases,
  ...transactionCases,
];
