// SPDX-License-Identifier: Apache-2.0
// Disks and targets exported by NBD, used by the clients that people have: libnbd's, QEMU's, fio.
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { allocatedBytes, MIB, sparseFile, workload } from '../support/loopback_machine.ts';
import { client } from '../support/nbd_client.ts';
import { type RestartGuest, RestartMachine } from '../support/restart_machine.ts';

const DISK_BYTES = 64 * MIB;

let machine: RestartMachine;
beforeEach(async () => {
  machine = await RestartMachine.start();
});
afterEach(async () => {
  await machine.close();
});

/** A script for libnbd; `h` is connected, with its contexts. */
function nbdsh(uri: string, script: string): Promise<string> {
  const lines = [
    'import nbd',
    'h = nbd.NBD()',
    'h.add_meta_context("base:allocation")',
    `h.connect_uri(${JSON.stringify(uri)})`,
    script,
    'h.shutdown()',
  ];
  return client('/usr/bin/python3', '-c', lines.join('\n'));
}

function file(name: string, bytes = DISK_BYTES): string {
  return sparseFile(`${machine.runtimeDir}/${name}`, bytes);
}

/** The export's URI. */
async function exported(source: string, ...options: string[]): Promise<string> {
  const { status, stdout, stderr } = await machine.daemon.cli('export', 'add', source, ...options);
  expect(stderr).toBe('');
  expect(status).toBe(0);
  return stdout.trim();
}

async function refused(source: string, ...options: string[]): Promise<string> {
  const { status, stderr } = await machine.daemon.cli('export', 'add', source, ...options);
  expect(status).not.toBe(0);
  return stderr;
}

async function list() {
  const { stdout } = await machine.daemon.cli('export', 'list', '--json');
  return JSON.parse(stdout).result.exports;
}

async function nameOf(guest: RestartGuest): Promise<string> {
  const { name } = (await machine.show(guest)) as { name: string };
  return name;
}

async function connectedGuest(): Promise<RestartGuest> {
  const guest = await machine.plug(DISK_BYTES);
  await guest.frontend.connect();
  return guest;
}

describe('a target', () => {
  it('is what its clients are told', async () => {
    const uri = await exported(file('a.img'), '--name', 'a');
    const told = await client('nbdinfo', '--json', uri);
    const [one] = JSON.parse(told).exports;
    expect(one).toMatchObject({
      'export-name': 'a',
      'export-size': DISK_BYTES,
      is_read_only: false,
      can_flush: true,
      can_fua: true,
      can_multi_conn: true,
      can_trim: true,
      can_zero: true,
      can_fast_zero: true,
      can_cache: true,
      can_df: true,
      block_size_minimum: 512,
      block_size_maximum: 32 * MIB,
      contexts: ['base:allocation'],
    });
  });

  it('is copied both ways by nbdcopy and qemu-img', async () => {
    const source = file('source.img');
    writeFileSync(source, Buffer.alloc(DISK_BYTES / 2, 'ringdisk'));
    const other = file('source.img.whole');
    const uri = await exported(file('b.img'), '--name', 'b');
    await client('nbdcopy', source, uri).catch(() => {});
    await client('truncate', '-s', String(DISK_BYTES), source);
    await client('nbdcopy', source, uri);
    await client('nbdcopy', uri, other);
    await client('cmp', source, other);
    await client('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', source, uri);
    const qcow2 = `${machine.runtimeDir}/b.qcow2`;
    await client('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', uri, qcow2);
    await client('qemu-img', 'convert', '-n', '-f', 'qcow2', '-O', 'raw', qcow2, uri);
    await client('qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2', uri, qcow2);
    // The older form, which XAPI uses.
    const old = `nbd:unix:${machine.runtimeDir}/nbd/b.sock:exportname=b`;
    expect(await client('qemu-img', 'info', '-f', 'raw', old)).toContain('64 MiB');
  });

  it('is written, zeroed, trimmed and mapped', async () => {
    const image = file('c.img');
    const uri = await exported(image, '--name', 'c');
    const said = await nbdsh(
      uri,
      `
a = bytes([7]) * 65536
h.pwrite(a, 0)
h.pwrite(a, 1 << 20, nbd.CMD_FLAG_FUA)
h.pwrite(a * 400, 8 << 20)
assert h.pread(len(a) * 400, 8 << 20) == a * 400
h.zero(32768, 0)
assert h.pread(65536, 0) == bytes(32768) + a[32768:]
h.zero(32768, 1 << 20, nbd.CMD_FLAG_NO_HOLE)
assert h.pread(65536, 1 << 20) == bytes(32768) + a[32768:]
h.zero(65536, 2 << 20, nbd.CMD_FLAG_FAST_ZERO)
h.trim(65536, 1 << 20)
h.flush()
h.cache(65536, 0)
extents = []
h.block_status(${DISK_BYTES}, 0, lambda context, offset, entries, error: extents.append(entries))
print(extents)`,
    );
    const [entries] = JSON.parse(said) as number[][];
    const holes = entries?.filter((_, index) => index % 2 === 1);
    expect(entries?.[0]).toBe(32768);
    expect(holes?.[0]).toBe(3);
    expect(holes?.[1]).toBe(0);
    const lengths = entries?.filter((_, index) => index % 2 === 0) ?? [];
    expect(lengths.reduce((sum, length) => sum + length, 0)).toBe(DISK_BYTES);
    expect(allocatedBytes(image)).toBeLessThan(32 * MIB);
  });

  it('is verified by fio, with several requests under way', async () => {
    const uri = await exported(file('d.img'), '--name', 'd');
    const job = [
      '--name=d',
      '--ioengine=nbd',
      `--uri=${uri}`,
      '--rw=randwrite',
      '--bsrange=512-64k',
    ];
    const load = [
      '--iodepth=32',
      '--size=16M',
      '--verify=crc32c',
      '--verify_state_save=0',
      '--blockalign=512',
    ];
    await client('fio', ...job, ...load);
  });

  it('has answers for what cannot be', async () => {
    const uri = await exported(file('e.img'), '--name', 'e', '--read-only');
    const said = await nbdsh(
      uri,
      `
h.set_strict_mode(0)
def error_of(call):
    try:
        call()
        return 'none'
    except nbd.Error as error:
        return error.errno
size = h.get_size()
print([error_of(call) for call in (
    lambda: h.pwrite(bytes(512), 0),
    lambda: h.zero(512, 0),
    lambda: h.pread(512, size),
    lambda: h.pread(100, 0),
    lambda: h.pread(33 << 20, 0),
    lambda: h.pread(512, 0),
)])`,
    );
    expect(said.trim()).toBe("['EPERM', 'EPERM', 'EINVAL', 'EINVAL', 'EOVERFLOW', 'none']");
  });

  it('is served to clients without structured replies, however long a read is', async () => {
    const uri = await exported(file('f.img'), '--name', 'f');
    await client(
      '/usr/bin/python3',
      '-c',
      `
import nbd
h = nbd.NBD()
h.set_request_structured_replies(False)
h.connect_uri(${JSON.stringify(uri)})
a = bytes(range(256)) * 4096 * 20
h.pwrite(a, 0)
assert h.pread(len(a), 0) == a
for i in range(30):
    h.aio_pread(nbd.Buffer(3 << 20), 0)
    h.aio_pread(nbd.Buffer(4096), 0)
while h.aio_in_flight() > 0:
    h.poll(1000)
assert h.pread(len(a), 0) == a
h.shutdown()`,
    );
  });
});

describe('a disk', () => {
  it('shows its guest and its clients the same bytes', async () => {
    const guest = await connectedGuest();
    const name = await nameOf(guest);
    const uri = await exported(name, '--name', 'g', '--allow-writers');
    await guest.frontend.run(workload('write', { length: 8 * MIB, seed: 5 }));
    const copy = `${machine.runtimeDir}/copy.img`;
    await client('nbdcopy', uri, copy);
    // What a client writes back the guest finds, at once.
    await guest.frontend.run(workload('write', { length: 8 * MIB, seed: 6 }));
    await client('nbdcopy', copy, uri);
    const verified = await guest.frontend.run(workload('verify', { length: 8 * MIB, seed: 5 }));
    expect(verified).toMatchObject({ errors: 0, mismatches: 0 });
  });

  it('is not written to by clients and a guest that do not know of each other', async () => {
    const guest = await connectedGuest();
    const name = await nameOf(guest);
    expect(await refused(name)).toContain('--allow-writers');
    await exported(name, '--read-only');
    expect((await list())[0]).toMatchObject({ source: name, readOnly: true, state: 'exported' });
  });

  it('that grows is grown for the clients that come', async () => {
    const guest = await connectedGuest();
    const name = await nameOf(guest);
    const uri = await exported(name, '--read-only');
    const { target } = (await machine.show(guest)) as { target: { path: string } };
    await client('truncate', '-s', '96M', target.path);
    expect((await machine.daemon.cli('resize', name)).stderr).toBe('');
    const told = JSON.parse(await client('nbdinfo', '--json', uri));
    expect(told.exports[0]['export-size']).toBe(96 * MIB);
  });

  it('takes its export with it', async () => {
    const guest = await connectedGuest();
    const name = await nameOf(guest);
    await exported(name, '--read-only');
    await machine.unplug(guest);
    await expect.poll(list, { timeout: 10_000 }).toEqual([]);
  });
});

describe('an export', () => {
  it('outlives its daemon, however that ends', async () => {
    const image = file('h.img');
    const uri = await exported(image, '--name', 'h');
    await nbdsh(uri, 'h.pwrite(bytes([9]) * 4096, 4096); h.flush()');
    for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
      await machine.stopDaemon(signal);
      await machine.startDaemon();
      await expect.poll(async () => (await list())[0]?.state, { timeout: 10_000 }).toBe('exported');
      await nbdsh(uri, 'assert h.pread(4096, 4096) == bytes([9]) * 4096');
    }
    expect((await machine.daemon.cli('export', 'remove', 'h')).status).toBe(0);
    expect(existsSync(`${machine.runtimeDir}/nbd/h.sock`)).toBe(false);
    expect(await list()).toEqual([]);
  });

  it('is refused with a sentence', async () => {
    expect(await refused('9/xvda')).toContain('no VBD');
    expect(await refused('/nowhere/disk.img')).toContain('/nowhere/disk.img');
    expect(await refused(file('i.img'), '--name', 'a:b')).toContain('colon');
    expect(await refused(file('i.img'), '--socket', 'relative')).toContain('absolute');
    await exported(file('i.img'), '--name', 'i');
    expect(await refused(file('j.img'), '--name', 'i')).toContain('already');
    const { status, stderr } = await machine.daemon.cli('export', 'remove', 'k');
    expect(status).toBe(1);
    expect(stderr).toContain('no export');
  });

  it('shares a socket with others, and lists them', async () => {
    const socket = `${machine.runtimeDir}/all.sock`;
    await exported(file('k.img'), '--name', 'k', '--socket', socket);
    await exported(file('l.img', 32 * MIB), '--name', 'l', '--socket', socket);
    const told = await client('nbdinfo', '--list', '--json', `nbd+unix:///?socket=${socket}`);
    const names = JSON.parse(told).exports.map(
      (one: { 'export-name': string }) => one['export-name'],
    );
    expect(names).toEqual(['k', 'l']);
    expect(statSync(socket).mode & 0o777).toBe(0o600);
    await machine.daemon.cli('export', 'remove', 'k');
    await nbdsh(`nbd+unix:///l?socket=${socket}`, 'h.pread(512, 0)');
  });

  it('ends its clients with it, in the middle of their work', async () => {
    const uri = await exported(file('m.img'), '--name', 'm');
    const job = ['--name=m', '--ioengine=nbd', `--uri=${uri}`, '--rw=randrw', '--bs=4k'];
    const load = client(
      'fio',
      ...job,
      '--iodepth=32',
      '--size=64M',
      '--runtime=20',
      '--time_based',
    );
    const ended = expect(load).rejects.toThrow();
    await expect.poll(async () => (await list())[0].clients, { timeout: 10_000 }).toBe(1);
    expect((await machine.daemon.cli('export', 'remove', 'm')).status).toBe(0);
    await ended;
  });
});

describe('a client', () => {
  /** Connected, with the greeting read. */
  async function stranger(uri: string): Promise<Socket> {
    const path = new URL(uri).searchParams.get('socket') ?? '';
    const socket = connect(path);
    socket.on('error', () => {});
    await once(socket, 'data');
    return socket;
  }

  it('that talks rubbish is let go of', async () => {
    const uri = await exported(file('n.img'), '--name', 'n');
    for (const said of [
      Buffer.alloc(64, 0xff),
      Buffer.alloc(4096),
      Buffer.from('GET / HTTP/1.1\r\n\r\n'),
    ]) {
      const socket = await stranger(uri);
      const gone = once(socket, 'close');
      socket.write(said);
      await gone;
    }
    await nbdsh(uri, 'h.pread(512, 0)');
  });

  it('that asks and never reads, or says nothing, holds nothing that others need', async () => {
    const uri = await exported(file('o.img'), '--name', 'o');
    const silent = await Promise.all(Array.from({ length: 8 }, () => stranger(uri)));
    await client(
      '/usr/bin/python3',
      '-c',
      `
import nbd, subprocess
deaf = []
for i in range(8):
    h = nbd.NBD()
    h.connect_uri(${JSON.stringify(uri)})
    for j in range(60):
        h.aio_pread(nbd.Buffer(1 << 20), 0)
    deaf.append(h)
h = nbd.NBD()
h.connect_uri(${JSON.stringify(uri)})
for j in range(200):
    h.pread(1 << 20, 0)
h.shutdown()`,
    );
    for (const socket of silent) socket.destroy();
    await expect.poll(async () => (await list())[0].clients, { timeout: 10_000 }).toBe(0);
  });

  it('that dies in the middle of a request leaves nothing behind', async () => {
    const image = file('p.img');
    const uri = await exported(image, '--name', 'p');
    for (let i = 0; i < 5; i++) {
      const job = [
        '--name=p',
        '--thread',
        '--ioengine=nbd',
        `--uri=${uri}`,
        '--rw=randwrite',
        '--bs=256k',
      ];
      const child = execFile('fio', [
        ...job,
        '--iodepth=16',
        '--size=64M',
        '--time_based',
        '--runtime=20',
      ]);
      await expect.poll(async () => (await list())[0].clients, { timeout: 10_000 }).toBe(1);
      await sleep(50 * Math.random());
      child.kill('SIGKILL');
      await expect.poll(async () => (await list())[0].clients, { timeout: 10_000 }).toBe(0);
    }
    await nbdsh(uri, 'h.pwrite(bytes([3]) * 512, 0); h.flush()');
    expect(readFileSync(image)[0]).toBe(3);
  });
});
