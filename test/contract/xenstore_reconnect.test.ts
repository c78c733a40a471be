// SPDX-License-Identifier: Apache-2.0
// What XenstoreConnection does when xenstored goes away, comes back, or never was there.
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { LinkLoss } from '../../src/xenstore/client.ts';
import { openXenstore, type XenstoreConnection } from '../../src/xenstore/connection.ts';
import { MemoryStore } from '../../src/xenstore/memory_store.ts';
import { serveXenstore, type XenstoreServer } from '../../src/xenstore/server.ts';

const options = { waitMs: 2000, reconnectMsMin: 5, reconnectMsMax: 20 };

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ringdisk-xenstore-'));
  path = join(folder, 'socket');
});
afterEach(() => rm(folder, { recursive: true }));

/** The next loss, or undefined for the next return. */
function linkChange(client: XenstoreConnection): Promise<LinkLoss | undefined> {
  return new Promise((resolve) => client.onLink(resolve));
}

describe('a lost connection', () => {
  let store: MemoryStore;
  let server: XenstoreServer;
  let client: XenstoreConnection;

  beforeEach(async () => {
    store = new MemoryStore();
    server = await serveXenstore(store, { path, domid: 0 });
    client = await openXenstore({ path, ...options });
  });
  afterEach(async () => {
    await client.close();
    await server.close();
  });

  async function lose(): Promise<void> {
    const lost = linkChange(client);
    await server.close();
    await lost;
  }

  async function comeBack(): Promise<void> {
    server = await serveXenstore(store, { path, domid: 0 });
  }

  it('lets new requests wait until xenstored is back', async () => {
    await lose();
    const connected = linkChange(client);
    const written = client.write('/a', '1');
    await comeBack();
    await written;
    await connected;
    expect(await client.read('/a')).toBe('1');
  });

  it('is known to be lost, and since when, until it is back', async () => {
    expect(client.lost).toBeUndefined();
    const loss = linkChange(client);
    await lose();
    expect(await loss).toBe(client.lost);
    expect(client.lost?.reason).toContain('closed');
    expect(Date.now() - Number(client.lost?.since)).toBeLessThan(10_000);
    const back = linkChange(client);
    await comeBack();
    expect(await back).toBeUndefined();
    expect(client.lost).toBeUndefined();
  });

  it('restores watches, which fire then', async () => {
    const seen: string[] = [];
    await client.watch('/a', (changed) => seen.push(changed));
    await expect.poll(() => seen).toEqual(['/a']);
    await lose();
    await store.client(0).write('/a', 'changed while nobody looked');
    await comeBack();
    await expect.poll(() => seen).toEqual(['/a', '/a']);
    await client.write('/a/b', '1');
    await expect.poll(() => seen).toEqual(['/a', '/a', '/a/b']);
  });

  it('does not restore a watch that was removed meanwhile', async () => {
    const seen: string[] = [];
    const watch = await client.watch('/a', (changed) => seen.push(changed));
    await expect.poll(() => seen).toEqual(['/a']);
    await lose();
    await watch.remove();
    await comeBack();
    await client.write('/a', '1');
    await client.read('/a');
    expect(seen).toEqual(['/a']);
  });

  it('fails a transaction with ECONNRESET, and does not run it again', async () => {
    let runs = 0;
    const attempt = client.transaction(async (requests) => {
      runs++;
      await requests.write('/a', '1');
      await lose();
      await comeBack();
      await client.read('/');
      await requests.write('/b', '1');
    });
    await expect(attempt).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect(runs).toBe(1);
    expect(await client.read('/a')).toBeUndefined();
  });

  it('fails what was under way with ECONNRESET', async () => {
    const reads = Array.from({ length: 40 }, () => client.read('/').catch((error) => error.code));
    await server.close();
    const answers = new Set(await Promise.all(reads));
    answers.delete('');
    expect([...answers].join()).toMatch(/^(ECONNRESET)?$/);
    await comeBack();
    expect(await client.read('/')).toBe('');
  });

  it('ends the wait of close, too', async () => {
    await lose();
    const waiting = client.read('/a');
    const rejected = expect(waiting).rejects.toMatchObject({ code: 'ECANCELED' });
    await client.close();
    await rejected;
    await comeBack();
  });

  it('survives several losses', async () => {
    for (let count = 0; count < 5; count++) {
      await lose();
      await comeBack();
      await client.write('/count', String(count));
    }
    expect(await client.read('/count')).toBe('4');
  });
});

it('lets a request wait no longer than waitMs', async () => {
  const server = await serveXenstore(new MemoryStore(), { path, domid: 0 });
  const client = await openXenstore({ path, ...options, waitMs: 50 });
  const lost = linkChange(client);
  await server.close();
  await lost;
  await expect(client.read('/a')).rejects.toMatchObject({
    code: 'ETIMEDOUT',
    message: 'xenstored has not answered for 0.05 s',
  });
  await client.close();
});

describe('openXenstore', () => {
  it('says what is missing', async () => {
    await expect(openXenstore({ path })).rejects.toMatchObject({
      code: 'ENOENT',
      message: `there is no xenstore at ${path}: is this a Xen domain, and does xenstored run?`,
    });
  });

  it('says what is there but no xenstore', async () => {
    await writeFile(path, '');
    await expect(openXenstore({ path })).rejects.toThrow(
      `cannot use xenstore at ${path}: it is neither a socket nor a character device`,
    );
  });

  it('does not talk on with somebody who speaks another protocol', async () => {
    const server = createServer((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n')).listen(
      path,
    );
    await once(server, 'listening');
    await expect(openXenstore({ path, ...options })).rejects.toMatchObject({
      code: 'ECONNRESET',
      message: expect.stringContaining('a xenstore message claims a payload of'),
    });
    server.close();
  });

  it('does not wait for ever for a xenstored that says nothing', async () => {
    const server = createServer(() => undefined).listen(path);
    await once(server, 'listening');
    await expect(openXenstore({ path, ...options, waitMs: 50 })).rejects.toMatchObject({
      code: 'ETIMEDOUT',
    });
    server.close();
  });
});
