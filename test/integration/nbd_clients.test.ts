// SPDX-License-Identifier: Apache-2.0
// What a disk's clients are told of its holes and zeroes, and how XAPI asks.
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, writeSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { allocatedBytes, MIB, sparseFile } from '../support/loopback_machine.ts';
import { client, type Extent, extentsOf, PlainClient } from '../support/nbd_client.ts';
import { RestartMachine } from '../support/restart_machine.ts';

const DISK_BYTES = 64 * MIB;
/** Where the test's media have data; the rest is holes, or zeroes. */
const DATA = [
  [0, 64 * 1024],
  [16 * MIB, MIB],
] as const;
const HOLE = 1;
const ZERO = 2;
/** What looks for zeroes reads for one answer, at most. */
const READ_BYTES_MAX = 4 * MIB;

let machine: RestartMachine;
beforeEach(async () => {
  machine = await RestartMachine.start();
});
afterEach(async () => {
  await machine.close();
});

/** A sparse file with some data. */
function image(name: string): string {
  const file = sparseFile(machine.file(name), DISK_BYTES);
  const fd = openSync(file, 'r+');
  for (const [offset, length] of DATA) writeSync(fd, Buffer.alloc(length, 7), 0, length, offset);
  closeSync(fd);
  return file;
}

/** The export's UNIX socket. */
async function exported(source: string, ...options: string[]): Promise<string> {
  const add = ['export', 'add', source, '--name', 'disk', ...options];
  const { status, stderr } = await machine.daemon.cli(...add);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return machine.file('nbd', 'disk.sock');
}

/** As XAPI's sparse export walks over a disk; every answer is one chunk. */
async function walk(socket: string): Promise<Extent[]> {
  const walker = await PlainClient.to(socket, 'disk');
  const found: Extent[] = [];
  for (let at = 0; at < DISK_BYTES; ) {
    const chunks = await walker.blockStatus(at, DISK_BYTES - at);
    expect(chunks.map(({ type, isLast }) => ({ type, isLast }))).toEqual([
      { type: 5, isLast: true },
    ]);
    const extents = chunks.flatMap(extentsOf);
    expect(extents.length).toBeGreaterThan(0);
    for (const [length, flags] of extents) {
      expect(length % 512).toBe(0);
      at += length;
      const last = found.at(-1);
      if (last?.[1] === flags) last[0] += length;
      else found.push([length, flags]);
    }
  }
  walker.close();
  return found;
}

function expected(flags: number): Extent[] {
  return [
    [64 * 1024, 0],
    [16 * MIB - 64 * 1024, flags],
    [MIB, 0],
    [DISK_BYTES - 17 * MIB, flags],
  ];
}

describe('the map of a disk', () => {
  it('has the holes of a file, for XAPI and for nbdinfo, nbdsh and qemu-img', async () => {
    const socket = await exported(image('a.img'));
    expect(await walk(socket)).toEqual(expected(HOLE | ZERO));
    const uri = `nbd+unix:///disk?socket=${socket}`;
    const told = JSON.parse(await client('nbdinfo', '--map', '--json', uri));
    const lengths = told.map(({ length, type }: { length: number; type: number }) => [
      length,
      type,
    ]);
    expect(lengths).toEqual(expected(HOLE | ZERO));
    const map = JSON.parse(await client('qemu-img', 'map', '--output=json', '-f', 'raw', uri));
    expect(map.map(({ data }: { data: boolean }) => data)).toEqual([true, false, true, false]);
    const script =
      'print(h.pread(512, 16 << 20)[:2], h.get_size(), h.can_meta_context("base:allocation"))';
    const said = await client(
      '/usr/bin/python3',
      '-m',
      'nbd',
      '--base-allocation',
      '-u',
      uri,
      '-c',
      script,
    );
    expect(said.trim()).toBe(`bytearray(b'\\x07\\x07') ${DISK_BYTES} True`);
  });

  it('is read by the URI that XAPI writes, and by no other it would refuse', async () => {
    const { stdout } = await machine.daemon.cli('export', 'add', image('b.img'), '--json');
    const { uri, oldUri, socket } = JSON.parse(stdout).result.export;
    expect(oldUri).toMatch(/^nbd:unix:[^:]+:exportname=[^:]+$/);
    expect(oldUri).toBe(`nbd:unix:${socket}:exportname=b.img`);
    expect(uri).toBe(`nbd+unix:///b.img?socket=${socket}`);
    for (const one of [oldUri, uri]) {
      expect(await client('qemu-img', 'info', '-f', 'raw', one)).toContain('64 MiB');
    }
  });
});

describe('the map of a device', () => {
  let device: string | undefined;
  afterEach(() => {
    if (device) execFileSync('losetup', ['-d', device]);
    device = undefined;
  });

  /** A loop device, or undefined where none can be had. */
  function loopDevice(): string | undefined {
    try {
      const args = ['--find', '--show', image('loop.img')];
      device = execFileSync('losetup', args, { encoding: 'utf8', stdio: 'pipe' }).trim();
      return device;
    } catch {
      return undefined;
    }
  }

  it('is all data, unless zeroes are to be looked for', async ({ skip }) => {
    const source = loopDevice() ?? skip('no loop device');
    const socket = await exported(source, '--read-only');
    expect(await walk(socket)).toEqual([[DISK_BYTES, 0]]);
    await machine.daemon.cli('export', 'remove', 'disk');
    await exported(source, '--read-only', '--detect-zeroes');
    expect(await walk(socket)).toEqual(expected(ZERO));
    // Never more than a bounded part is read for one answer.
    const asked = await PlainClient.to(socket, 'disk');
    const answer = (await asked.blockStatus(MIB, DISK_BYTES - MIB)).flatMap(extentsOf);
    expect(answer).toEqual([[READ_BYTES_MAX, ZERO]]);
    // Within a unit of 64 KiB, whose rest is data.
    const small = (await asked.blockStatus(512, 66 * 1024)).flatMap(extentsOf);
    expect(small).toEqual([
      [64 * 1024 - 512, 0],
      [2.5 * 1024, ZERO],
    ]);
    asked.close();
  });

  it('lets a copy of it be sparse, and follows what is written', async ({ skip }) => {
    const source = loopDevice() ?? skip('no loop device');
    const socket = await exported(source, '--detect-zeroes');
    const uri = `nbd+unix:///disk?socket=${socket}`;
    const copy = machine.file('copy.img');
    // It looks for no zeroes of its own.
    await client('nbdcopy', '--sparse=0', uri, copy);
    expect(allocatedBytes(copy)).toBeLessThan(4 * MIB);
    await client('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', uri, copy);
    await client(
      '/usr/bin/python3',
      '-m',
      'nbd',
      '-u',
      uri,
      '-c',
      'h.zero(1 << 20, 16 << 20); h.flush()',
    );
    expect(await walk(socket)).toEqual([
      [64 * 1024, 0],
      [DISK_BYTES - 64 * 1024, ZERO],
    ]);
  });

  it('says so in the list, after a restart too', async ({ skip }) => {
    const source = loopDevice() ?? skip('no loop device');
    const socket = await exported(source, '--read-only', '--detect-zeroes');
    await machine.killAndStartDaemon();
    const list = async () => {
      const { stdout } = await machine.daemon.cli('export', 'list', '--json');
      return JSON.parse(stdout).result.exports[0];
    };
    await expect.poll(async () => (await list()).state, { timeout: 10_000 }).toBe('exported');
    expect(await list()).toMatchObject({ detectZeroes: true });
    expect(await walk(socket)).toEqual(expected(ZERO));
  });
});
