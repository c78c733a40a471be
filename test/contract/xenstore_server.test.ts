// SPDX-License-Identifier: Apache-2.0
import { once } from 'node:events';
import { mkdtemp, rename, rm, stat } from 'node:fs/promises';
import { createConnection, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openXenstore } from '../../src/xenstore/connection.ts';
import { openSocketLink } from '../../src/xenstore/link.ts';
import { MemoryStore } from '../../src/xenstore/memory_store.ts';
import { serveXenstore, type XenstoreServer } from '../../src/xenstore/server.ts';
import { Session } from '../../src/xenstore/session.ts';
import { waitingPathsMax } from '../../src/xenstore/watch_queue.ts';
import {
  encodeMessage,
  encodeStrings,
  MessageDecoder,
  messageType,
} from '../../src/xenstore/wire.ts';

let folder: string;
let path: string;
let store: MemoryStore;
let server: XenstoreServer;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ringdisk-xenstore-'));
  path = join(folder, 'socket');
  store = new MemoryStore();
  server = await serveXenstore(store, { path, domid: 0 });
});
afterEach(async () => {
  await server.close();
  await rm(folder, { recursive: true });
});

it('makes a socket that only its owner can use, and removes it', async () => {
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  await server.close();
  await expect(stat(path)).rejects.toMatchObject({ code: 'ENOENT' });
});

it('refuses a socket that is served, replaces one that is abandoned', async () => {
  const again = serveXenstore(store, { path, domid: 0 });
  await expect(again).rejects.toMatchObject({ code: 'EADDRINUSE' });
  const elsewhere = createServer().listen(join(folder, 'elsewhere'));
  await once(elsewhere, 'listening');
  await rename(join(folder, 'elsewhere'), join(folder, 'abandoned'));
  elsewhere.close();
  const replacing = await serveXenstore(store, { path: join(folder, 'abandoned'), domid: 0 });
  await replacing.close();
});

it('gives its connections the rights of the given domain', async () => {
  const guestPath = join(folder, 'guest');
  const guestServer = await serveXenstore(store, { path: guestPath, domid: 5 });
  const guest = await openXenstore({ path: guestPath });
  const dom0 = store.client(0);
  await dom0.write('/local/domain/5', '');
  await dom0.setPermissions('/local/domain/5', [{ domid: 5, access: 'n' }]);
  await guest.write('device/vbd/1/state', '1');
  expect(await dom0.read('/local/domain/5/device/vbd/1/state')).toBe('1');
  await expect(guest.read('/local')).rejects.toMatchObject({ code: 'EACCES' });
  await guest.close();
  await guestServer.close();
});

it('answers requests it does not know or cannot parse with an error', async () => {
  const link = (handlers: Parameters<typeof openSocketLink>[1]) => openSocketLink(path, handlers);
  const session = await Session.open(link, { onWatchEvent: () => {}, onLost: () => {} });
  const request = (type: number, payload: Buffer, transaction = 0) =>
    session.request({ type, transaction, payload, what: 'test' });
  const { read, write, watch, setPermissions, transactionEnd, getDomainPath } = messageType;
  const cases: [code: string, type: number, payload: Buffer, transaction?: number][] = [
    ['ENOSYS', 8, encodeStrings('1')],
    ['ENOSYS', 0xffff, encodeStrings('1')],
    ['EINVAL', read, Buffer.alloc(0)],
    ['EINVAL', read, Buffer.from('/a')],
    ['EINVAL', read, encodeStrings('/', '/')],
    ['ENOENT', read, encodeStrings('/'), 77],
    ['EINVAL', write, Buffer.from('/a')],
    ['EINVAL', watch, encodeStrings('/', 'x'.repeat(2000))],
    ['EINVAL', setPermissions, encodeStrings('/', 'x0')],
    ['EINVAL', transactionEnd, encodeStrings('?'), 1],
    ['EINVAL', getDomainPath, encodeStrings('99999')],
  ];
  for (const [code, type, payload, transaction] of cases) {
    await expect(request(type, payload, transaction), `${code} ${type}`).rejects.toMatchObject({
      code,
    });
  }
  await request(watch, encodeStrings('/', '1'));
  await expect(request(watch, encodeStrings('/', '1'))).rejects.toMatchObject({ code: 'EEXIST' });
  await session.close(Object.assign(new Error('done'), { code: 'ECANCELED' }) as never);
});

it('drops a client that breaks the protocol, and only that one', async () => {
  const good = await openXenstore({ path });
  const bad = createConnection(path);
  bad.write(Buffer.alloc(64, 0xff));
  await once(bad, 'close');
  expect(await good.read('/')).toBe('');
  await good.close();
});

it('keeps a bounded number of events for a client that does not read', async () => {
  const client = createConnection(path);
  const decoder = new MessageDecoder();
  const payload = encodeStrings('/w', 'token');
  client.write(encodeMessage({ type: messageType.watch, requestId: 1, transaction: 0, payload }));
  await once(client, 'readable');
  const dom0 = store.client(0);
  const rounds = 40;
  const perRound = waitingPathsMax;
  for (let round = 0; round < rounds; round++) {
    for (let index = 0; index < perRound; index++) {
      await dom0.write(`/w/${'x'.repeat(200)}/${round}-${index}`, '');
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  await dom0.write('/w/last', '');
  const paths: string[] = [];
  client.on('data', (chunk) => {
    for (const { payload } of decoder.push(chunk))
      paths.push(payload.toString().split('\0')[0] ?? '');
  });
  await expect.poll(() => paths.at(-1)).toBe('/w/last');
  expect(paths.length).toBeLessThan((rounds * perRound) / 2);
  client.destroy();
});
