// SPDX-License-Identifier: Apache-2.0
// Who comes to "ringdisk nbd-listen" and is not let in: without TLS, with a wrong certificate, too
// slow, too many. None of them reaches the export.
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import path from 'node:path';
import { connect as connectTls } from 'node:tls';
import { describe, expect, it } from 'vitest';
import { readExactly } from '../../src/nbd_tls/streams.ts';
import { folderOf, nbdsh, TlsBench } from '../support/forwarding.ts';
import { client } from '../support/nbd_client.ts';

const IHAVEOPT = 'IHAVEOPT';
const bench = new TlsBench();

describe('who is not let in', () => {
  it.each([
    ['of another authority', () => folderOf(bench.others), 'no TLS with it'],
    [
      'of the past',
      () => bench.ours.folder({ client: { name: 'alice', expired: true } }),
      'EXPIRED',
    ],
    ['missing', () => bench.ours.folder(), 'no TLS with it'],
  ])('a certificate %s', async (_, make, reason) => {
    const listener = await bench.listen();
    await expect(client('nbdinfo', listener.uri(make()))).rejects.toThrow();
    await listener.says('client refused');
    expect(listener.log).toMatch(new RegExp(reason));
    expect(listener.log).not.toContain('client connected');
    // The listener goes on.
    await client('nbdinfo', listener.uri(bench.good));
  });

  it('a certificate of another authority, shown by a client that trusts ours', async () => {
    const listener = await bench.listen();
    const { socket, answer } = await stranger(listener.port);
    socket.write(optionHeader(5, 0));
    await answer(20);
    const folder = folderOf(bench.others);
    const file = (name: string) => readFileSync(path.join(folder, name));
    const own = { cert: file('client-cert.pem'), key: file('client-key.pem') };
    const authority = readFileSync(path.join(bench.good, 'ca-cert.pem'));
    const secure = connectTls({ socket, host: 'localhost', ca: authority, ...own });
    secure.on('error', () => {});
    await once(secure.resume(), 'close');
    await listener.says('UNABLE_TO_VERIFY_LEAF_SIGNATURE');
  });

  it('a certificate that was revoked while the listener ran', async () => {
    const server = bench.ours.folder({ server: { name: 'localhost' } });
    const bob = bench.ours.folder({ client: { name: 'bob' } });
    const listener = await bench.listen('--certificates', server);
    await client('nbdinfo', listener.uri(bob));
    bench.ours.revoke(path.join(bob, 'client-cert.pem'), server);
    await expect(client('nbdinfo', listener.uri(bob))).rejects.toThrow();
    await listener.says('CERT_REVOKED');
    await client('nbdinfo', listener.uri(bench.good));
  });

  it('a name that is not on the list', async () => {
    const listener = await bench.listen('--client', 'bob', '--client', 'carol');
    await expect(client('nbdinfo', listener.uri(bench.good))).rejects.toThrow();
    await listener.says('no client of the name \\"alice\\"');
    await client('nbdinfo', listener.uri(bench.ours.folder({ client: { name: 'carol' } })));
  });

  it('a client that speaks plain text, whatever it says', async () => {
    const listener = await bench.listen();
    await expect(client('nbdinfo', `nbd://localhost:${listener.port}/disk`)).rejects.toThrow();
    const { socket, answer } = await stranger(listener.port);
    socket.write(option(8, Buffer.alloc(0)));
    expect((await answer(20)).subarray(8).toString('hex')).toBe('000000088000000500000000');
    // With data, and in pieces.
    const go = option(7, Buffer.from('\0\0\0\x04disk\0\0'));
    socket.write(go.subarray(0, 13));
    socket.write(go.subarray(13));
    expect((await answer(20)).subarray(8).toString('hex')).toBe('000000078000000500000000');
    const over = once(socket.resume(), 'close');
    socket.write(option(1, Buffer.from('disk')));
    await over;
    expect(await bench.clients()).toBe(0);
    expect(listener.log).not.toContain('client connected');
  });

  const starttls = optionHeader(5, 0);
  const list = optionHeader(8, 0);
  it.each<[string, Buffer[], string, Buffer?]>([
    ['flags of another kind', [Buffer.from('00000080', 'hex')], 'no client'],
    ['rubbish', [flags(), Buffer.alloc(64, 0xaa)], 'no option'],
    ['an option without end', [flags(), optionHeader(7, 0xffffffff)], '4294967295 bytes'],
    ['options without end', [flags(), ...Array(17).fill(list)], '16 options'],
    // What is sent ahead of TLS would be taken for the client's own.
    ['more than STARTTLS', [flags(), starttls, list], 'more before TLS'],
    ['no TLS behind STARTTLS', [flags(), starttls], 'no TLS with it', Buffer.alloc(99, 1)],
  ])('a client that sends %s', async (_, first, reason, then) => {
    const listener = await bench.listen();
    const { socket, answer } = await stranger(listener.port, false);
    const over = once(socket, 'close');
    socket.write(Buffer.concat(first));
    if (then) {
      await answer(20);
      socket.write(then);
    }
    socket.resume();
    await over;
    await listener.says('client refused');
    expect(listener.log).toContain(reason);
    expect(await bench.clients()).toBe(0);
  });

  it('too many at once: who is not through goes, oldest first', async () => {
    const listener = await bench.listen('--connections', '2');
    const silent = await Promise.all(Array.from({ length: 64 }, () => stranger(listener.port)));
    const gone = Promise.race(silent.map(({ socket }) => once(socket.resume(), 'close')));
    await client('nbdinfo', listener.uri(bench.good));
    await gone;
    await listener.says('64 others came before it was through');
    const script = `
second = connected()
try:
    connected()
    print('let in')
except nbd.Error:
    print('refused')`;
    expect((await nbdsh(listener.uri(bench.good), script)).trim()).toBe('refused');
    await listener.says('2 clients are connected already');
    for (const { socket } of silent) socket.destroy();
  });

  it('a client that stalls in the handshake, after 10 s', async () => {
    const listener = await bench.listen();
    const before = performance.now();
    const silent = await stranger(listener.port);
    const half = await stranger(listener.port);
    half.socket.write(optionHeader(5, 0));
    await half.answer(20);
    await Promise.all([silent, half].map(({ socket }) => once(socket.resume(), 'close')));
    expect(performance.now() - before).toBeGreaterThan(9_000);
    await listener.says('handshake took more than 10 s');
  });
});

function flags(): Buffer {
  return Buffer.from('00000003', 'hex');
}

function optionHeader(number: number, length: number): Buffer {
  const header = Buffer.alloc(16);
  header.write(IHAVEOPT);
  header.writeUInt32BE(number, 8);
  header.writeUInt32BE(length, 12);
  return header;
}

function option(number: number, data: Buffer): Buffer {
  return Buffer.concat([optionHeader(number, data.length), data]);
}

/** A client by hand; it has read the greeting, and said its flags unless told not to. */
async function stranger(port: number, saysFlags = true) {
  const socket: Socket = connect({ port, host: '127.0.0.1' });
  socket.on('error', () => {});
  const answer = (bytes: number) => readExactly(socket, bytes);
  await answer(18);
  if (saysFlags) socket.write(flags());
  return { socket, answer };
}
