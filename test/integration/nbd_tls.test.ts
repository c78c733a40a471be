// SPDX-License-Identifier: Apache-2.0
// NBD over the network: "ringdisk nbd-listen" and "nbd-connect" before a daemon's export, used by
// the clients that people have.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { statSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { DISK_BYTES, Forwarding, folderOf, nbdsh, TlsBench } from '../support/forwarding.ts';
import { client } from '../support/nbd_client.ts';
import { follow, MAIN, start } from '../support/serve_process.ts';

const bench = new TlsBench();

function randomFile(name: string): string {
  const bytes = Buffer.alloc(DISK_BYTES);
  for (let at = 0; at < bytes.length; at += 4096) bytes.writeUInt32LE((at * 2654435761) >>> 0, at);
  const file = bench.machine.file(name);
  writeFileSync(file, bytes);
  return file;
}

describe('an export on the network', () => {
  it('is told of, copied both ways and converted by clients with a certificate', async () => {
    const uri = (await bench.listen()).uri(bench.good);
    const [one] = JSON.parse(await client('nbdinfo', '--json', uri)).exports;
    expect(one).toMatchObject({ 'export-name': 'disk', 'export-size': DISK_BYTES });
    expect(await client('nbdinfo', '--map', uri)).toContain('hole,zero');
    const source = randomFile('source.img');
    await client('nbdcopy', source, uri);
    await client('nbdcopy', uri, bench.machine.file('back.img'));
    await client('cmp', source, bench.machine.file('back.img'));
  });

  it('is read by qemu-img', async () => {
    const { port } = await bench.listen();
    const source = randomFile('source.img');
    await client('nbdcopy', source, `nbd+unix:///disk?socket=${bench.exported}`);
    const tls = [
      '--object',
      `tls-creds-x509,id=t,endpoint=client,dir=${bench.good}`,
      '--image-opts',
    ];
    const opened = `driver=nbd,host=localhost,port=${port},export=disk,tls-creds=t`;
    await client('qemu-img', 'convert', ...tls, opened, '-O', 'raw', bench.machine.file('q.img'));
    await client('cmp', source, bench.machine.file('q.img'));
  });

  it('takes requests of 32 MiB, several at a time, of several connections', async () => {
    const listener = await bench.listen();
    await nbdsh(
      listener.uri(bench.good),
      `
a = bytes(range(256)) * (32 << 12)
for i in range(3):
    h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(a)), 0)
    h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(a)), 32 << 20)
while h.aio_in_flight() > 0:
    h.poll(1000)
for one in [connected() for i in range(4)]:
    assert one.pread(32 << 20, 32 << 20) == a
    one.shutdown()`,
    );
    await expect.poll(() => bench.clients(), { timeout: 10_000 }).toBe(0);
    expect(listener.log).not.toContain('Warning');
  });

  it('is read as fast as a client takes it: those who never read hold no memory', async () => {
    const listener = await bench.listen();
    const said = await nbdsh(
      listener.uri(bench.good),
      `
def resident():
    lines = open('/proc/${listener.pid}/status').readlines()
    return [int(line.split()[1]) for line in lines if line.startswith('VmRSS')][0] >> 10
before = resident()
deaf = [connected() for i in range(8)]
for one in deaf:
    for i in range(60):
        one.aio_pread(nbd.Buffer(1 << 20), 0)
for i in range(32):
    h.pread(1 << 20, 0)
print(resident() - before)`,
    );
    // Of 480 MiB that they have asked for.
    expect(Number(said)).toBeLessThan(100);
  });

  it('is there again when its daemon is', async () => {
    const listener = await bench.listen();
    const uri = listener.uri(bench.good);
    await nbdsh(uri, 'h.pwrite(bytes([9]) * 4096, 4096); h.flush()');
    await bench.machine.stopDaemon('SIGKILL');
    await expect(client('nbdinfo', uri)).rejects.toThrow();
    await listener.says('the export cannot be reached');
    await bench.machine.startDaemon();
    await expect.poll(() => nbdsh(uri, '').catch(() => 'not yet'), { timeout: 20_000 }).toBe('');
    await nbdsh(uri, 'assert h.pread(4096, 4096) == bytes([9]) * 4096');
  });
});

describe('a server elsewhere', () => {
  function reach(listener: Forwarding, ...args: string[]): Promise<Forwarding> {
    const where = [`localhost:${listener.port}`, '--socket', bench.machine.file('far.sock')];
    return Forwarding.of('nbd-connect', ...where, '--certificates', bench.good, ...args);
  }

  const uri = () => `nbd+unix:///disk?socket=${bench.machine.file('far.sock')}`;

  it('is used by clients without TLS', async () => {
    await reach(await bench.listen());
    expect(statSync(bench.machine.file('far.sock')).mode & 0o777).toBe(0o600);
    const source = randomFile('source.img');
    await client('nbdcopy', source, uri());
    await client('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', source, uri());
    const old = `nbd:unix:${bench.machine.file('far.sock')}:exportname=disk`;
    expect(await client('qemu-img', 'info', '-f', 'raw', old)).toContain('64 MiB');
  });

  it('may be of another make', async () => {
    const socket = bench.machine.file('kit.sock');
    const options = ['-f', '-U', socket, '-e', 'disk', '--tls=require'];
    const kit = execFile('nbdkit', [
      ...options,
      `--tls-certificates=${bench.good}`,
      'memory',
      '64M',
    ]);
    await expect.poll(() => statSync(socket, { throwIfNoEntry: false })?.isSocket()).toBe(true);
    // It listens on a UNIX socket, so that it needs no port of its own.
    const bridge = await bridgeTo(socket);
    const far = ['--socket', bench.machine.file('far.sock'), '--certificates', bench.good];
    await Forwarding.of('nbd-connect', `localhost:${bridge.port}`, ...far);
    await nbdsh(uri(), 'h.pwrite(bytes([5]) * 512, 0); assert h.pread(512, 0)[0] == 5');
    kit.kill();
    bridge.close();
  });

  it.each([
    ['of another name', () => bench.good, ['--server-name', 'otherhost'], 'otherhost'],
    ['of another authority', () => folderOf(bench.others), [], 'certificate'],
    ['of the past', () => bench.good, [], 'expired'],
  ])('is refused with a certificate %s', async (which, certificates, args, reason) => {
    const expired = which === 'of the past';
    const server = bench.ours.folder({ server: { name: 'localhost', expired } });
    const listener = await bench.listen('--certificates', server);
    const far = await reach(listener, '--certificates', certificates(), ...args);
    await expect(client('nbdinfo', uri())).rejects.toThrow();
    await far.says('client refused');
    expect(far.log).toContain(reason);
    expect(await bench.clients()).toBe(0);
  });

  it('is never spoken to in plain text', async () => {
    const bridge = await bridgeTo(bench.exported);
    const far = ['--socket', bench.machine.file('far.sock'), '--certificates', bench.good];
    const connecting = await Forwarding.of('nbd-connect', `localhost:${bridge.port}`, ...far);
    await expect(client('nbdinfo', uri())).rejects.toThrow();
    await connecting.says('it has no TLS');
    bridge.close();
  });

  it('is reached by a socket that systemd made', async () => {
    const listener = await bench.listen();
    // As sd_listen_fds(3) has it.
    const passed = [
      'import os, socket, sys',
      's = socket.socket(socket.AF_UNIX)',
      's.bind(sys.argv[1])',
      's.listen(8)',
      'os.dup2(s.fileno(), 3)',
      'os.set_inheritable(3, True)',
      'os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")',
      'os.execv(sys.argv[2], sys.argv[2:])',
    ].join('\n');
    const words = [MAIN, 'nbd-connect', `localhost:${listener.port}`, '--certificates', bench.good];
    const python = ['-c', passed, bench.machine.file('far.sock'), process.execPath];
    const child = spawn('/usr/bin/python3', [...python, ...words]);
    const far = new Forwarding(follow(child));
    await far.says('listening');
    await client('nbdinfo', uri());
    await far.stop();
  });

  it('leaves a socket that is in use, and takes one that is not', async () => {
    const listener = await bench.listen();
    const first = await reach(listener);
    const second = new Forwarding(
      start([
        ...['nbd-connect', `localhost:${listener.port}`, '--certificates', bench.good],
        ...['--socket', bench.machine.file('far.sock')],
      ]),
    );
    await second.says('EADDRINUSE');
    await first.stop('SIGKILL');
    await reach(listener);
    await client('nbdinfo', uri());
  });
});

describe('the commands', () => {
  it('say what is wrong with certificates', async () => {
    const listenWith = (...args: string[]) =>
      start(['nbd-listen', '--to', bench.exported, '--port', '0', ...args]).ended;
    expect((await listenWith()).stderr).toContain('--certificates');
    const { status, stderr } = await listenWith('--certificates', bench.ours.folder());
    expect(status).toBe(1);
    expect(stderr).toContain('server-cert.pem');
    const mixed = bench.ours.folder({ server: { name: 'localhost' } });
    await client('cp', path.join(bench.good, 'server-key.pem'), path.join(mixed, 'server-key.pem'));
    expect((await listenWith('--certificates', mixed)).stderr).toContain('cannot be used');
  });

  it('let in anybody only where that is asked for', async () => {
    const listener = await bench.listen('--no-client-certificate');
    await client('nbdinfo', listener.uri(bench.ours.folder()));
    expect(listener.log).toContain('anybody is let in');
    const both = ['--client', 'a', '--no-client-certificate', '--to', bench.exported];
    const { status, stderr } = await start(['nbd-listen', ...both]).ended;
    expect(status).toBe(2);
    expect(stderr).toContain('--client');
  });

  it('end at once, with their clients', async () => {
    const listener = await bench.listen();
    const open = nbdsh(listener.uri(bench.good), 'h.poll(20000); h.pread(512, 0)');
    const ended = expect(open).rejects.toThrow();
    await expect.poll(() => bench.clients(), { timeout: 10_000 }).toBe(1);
    expect((await listener.stop()).status).toBe(0);
    await ended;
    await expect.poll(() => bench.clients(), { timeout: 10_000 }).toBe(0);
  });
});

/** A TCP port of a server that has a UNIX socket. */
async function bridgeTo(path: string) {
  const server = createServer((near) => {
    const far = connect({ path });
    for (const socket of [near, far]) socket.on('error', () => {});
    near.pipe(far).pipe(near);
  });
  await once(server.listen(0), 'listening');
  const { port } = server.address() as AddressInfo;
  return { port, close: () => server.close() };
}
