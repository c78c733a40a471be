// SPDX-License-Identifier: Apache-2.0
// Dirty bitmaps, from the command line to the clients that people back disks up with.
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MIB, workload } from '../support/loopback_machine.ts';
import { type RestartGuest, RestartMachine } from '../support/restart_machine.ts';

const DISK_BYTES = 64 * MIB;
const CHUNK = 64 * 1024;
const CLIENT_MS = 30_000;

let machine: RestartMachine;
let guest: RestartGuest;
beforeEach(async () => {
  machine = await RestartMachine.start();
  guest = await machine.plug(DISK_BYTES);
  await guest.frontend.connect();
});
afterEach(async () => {
  await machine.close();
});

interface Bitmap {
  name: string;
  state: string;
  granularity: number;
  dirtyBytes: number;
  exported: boolean;
  error?: string;
}

/** What `ringdisk bitmap ARGS --json` answers. */
async function bitmap(...args: string[]) {
  const { stdout } = await machine.daemon.cli('bitmap', ...args, '--json');
  const { result, error } = JSON.parse(stdout);
  if (error) throw new Error(error.message);
  return result;
}

const VBD = '1/xvda';
const add = async (name: string, ...options: string[]): Promise<Bitmap> =>
  (await bitmap('add', VBD, name, ...options)).bitmap;
const list = async (): Promise<Bitmap[]> => (await bitmap('list', VBD)).bitmaps;
const change = async (verb: string, ...names: string[]): Promise<Bitmap> =>
  (await bitmap(verb, VBD, ...names)).bitmap;
const extents = async (name: string): Promise<{ offset: number; length: number }[]> =>
  (await bitmap('dump', VBD, name)).extents;

const write = (offset: number, length: number, seed = 3) =>
  guest.frontend.run(workload('write', { offset, length, seed }));

const WORK_BYTES = 16 * MIB;

/**
 * While `step` is under way the guest writes, something else each time, all over a part of it.
 * `pass`: resolves when something has been written that was not there when it was called.
 */
async function whileWriting(
  step: (pass: () => Promise<unknown>) => Promise<unknown>,
): Promise<void> {
  let isOver = false;
  let passes = 0;
  const pass = () => {
    const from = passes;
    return expect.poll(() => passes, { timeout: 10_000 }).toBeGreaterThan(from + 1);
  };
  const over = step(pass).finally(() => {
    isOver = true;
  });
  // Told below, when the guest is at rest.
  over.catch(() => {});
  let errors = 0;
  for (let seed = 10; !isOver; seed++) {
    const given = { blockBytes: 4096, depth: 16, length: WORK_BYTES, bytes: MIB, seed };
    errors += (await guest.frontend.run(workload('randwrite', given))).errors;
    passes++;
  }
  await over;
  expect(errors).toBe(0);
}

async function client(program: string, ...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(program, args, { timeout: CLIENT_MS });
  return stdout;
}

/** The export's URI. */
async function exported(...options: string[]): Promise<string> {
  const { status, stdout, stderr } = await machine.daemon.cli('export', 'add', VBD, ...options);
  expect(stderr).toBe('');
  expect(status).toBe(0);
  return stdout.trim();
}

/** Of the disk as it is, chunk by chunk. */
function content(): Buffer[] {
  const bytes = readFileSync(machine.file('disk1.img'));
  return Array.from({ length: DISK_BYTES / CHUNK }, (_, index) =>
    bytes.subarray(index * CHUNK, (index + 1) * CHUNK),
  );
}

/** Chunks that differ between two contents and are not marked. */
async function missed(before: Buffer[], name: string): Promise<number[]> {
  const now = content();
  const marked = await extents(name);
  const isMarked = (at: number) =>
    marked.some(({ offset, length }) => at >= offset && at < offset + length);
  const changed = now.flatMap((chunk, index) => (before[index]?.equals(chunk) ? [] : [index]));
  expect(changed.length).toBeGreaterThan(0);
  return changed.filter((index) => !isMarked(index * CHUNK));
}

describe('a bitmap', () => {
  it('tells what was written since it was added, and nothing else', async () => {
    await write(0, MIB);
    expect(await add('a')).toEqual({
      name: 'a',
      state: 'recording',
      granularity: CHUNK,
      dirtyBytes: 0,
      exported: false,
    });
    await write(4 * MIB, 2 * MIB);
    await guest.frontend.run(workload('discard', { offset: 16 * MIB, length: MIB }));
    await guest.frontend.run(workload('read', { offset: 32 * MIB, length: MIB }));
    expect(await extents('a')).toEqual([
      { offset: 4 * MIB, length: 2 * MIB },
      { offset: 16 * MIB, length: MIB },
    ]);
    expect((await list())[0]).toMatchObject({ name: 'a', dirtyBytes: 3 * MIB });
    expect(await machine.show(guest)).toMatchObject({ bitmaps: [{ name: 'a' }] });
    const { stdout } = await machine.daemon.cli('bitmap', 'dump', VBD, 'a', '--format', 'raw');
    expect(Buffer.byteLength(stdout)).toBeGreaterThanOrEqual(DISK_BYTES / CHUNK / 8);
  });

  it('is disabled, enabled, cleared, merged and removed', async () => {
    await add('a');
    await add('b', '--disabled');
    await write(0, MIB);
    await change('disable', 'a');
    await change('enable', 'b');
    await write(MIB, MIB);
    expect(await extents('a')).toEqual([{ offset: 0, length: MIB }]);
    expect(await extents('b')).toEqual([{ offset: MIB, length: MIB }]);
    expect(await change('merge', 'a', 'b')).toMatchObject({ dirtyBytes: 2 * MIB });
    expect(await change('clear', 'b')).toMatchObject({ state: 'recording', dirtyBytes: 0 });
    expect(await change('clear', 'a')).toMatchObject({ state: 'disabled', dirtyBytes: 0 });
    await write(2 * MIB, MIB);
    expect(await extents('b')).toEqual([{ offset: 2 * MIB, length: MIB }]);
    expect(await extents('a')).toEqual([]);
    await change('remove', 'a');
    expect(await list()).toMatchObject([{ name: 'b' }]);
  });

  it('has all that changes, whenever it is added and whatever the guest does', async () => {
    await whileWriting(async (pass) => {
      for (const name of ['a', 'b', 'c']) {
        await add(name);
        const before = content();
        await pass();
        if (name !== 'a') await change('clear', 'a');
        expect(await missed(before, name)).toEqual([]);
      }
    });
  });

  it('goes on when its daemon dies, with all that the dead one wrote', async () => {
    await add('a');
    const before = content();
    await whileWriting(async () => {
      for (const signal of ['SIGKILL', 'SIGTERM', 'SIGKILL'] as const) {
        await machine.stopDaemon(signal);
        await machine.startDaemon();
        expect(await list()).toMatchObject([{ name: 'a', state: 'recording' }]);
        expect(await missed(before, 'a')).toEqual([]);
      }
    });
    expect(await missed(before, 'a')).toEqual([]);
    await write(40 * MIB, MIB);
    const marked = await extents('a');
    expect(marked.at(-1)).toEqual({ offset: 40 * MIB, length: MIB });
    expect(marked.at(-2)?.offset).toBeLessThan(WORK_BYTES);
  });

  it('has what the disk has grown by, until it is cleared', async () => {
    await add('a');
    await client('truncate', '-s', '96M', machine.file('disk1.img'));
    expect((await machine.daemon.cli('resize', VBD)).stderr).toBe('');
    expect(await extents('a')).toEqual([{ offset: DISK_BYTES, length: 32 * MIB }]);
    await change('clear', 'a');
    await write(80 * MIB, MIB);
    expect(await extents('a')).toEqual([{ offset: 80 * MIB, length: MIB }]);
  });

  it('has what is written where the target was smaller for a while', async () => {
    await add('a');
    const image = machine.file('disk1.img');
    await client('truncate', '-s', `${DISK_BYTES - 8 * MIB}`, image);
    const refused = await machine.daemon.cli('resize', VBD);
    expect(refused.stderr).toContain('a disk in use can only grow');
    await client('truncate', '-s', `${DISK_BYTES}`, image);
    await write(DISK_BYTES - 4 * MIB, MIB);
    expect(await extents('a')).toEqual([{ offset: DISK_BYTES - 4 * MIB, length: MIB }]);
    const { stdout } = await machine.daemon.cli('show', VBD, '--json');
    expect(JSON.parse(stdout).result.vbd.target.capabilities.capacity).toBe(DISK_BYTES);
    expect((await machine.daemon.cli('resize', VBD)).stderr).toBe('');
  });

  it('is refused with a sentence', async () => {
    await expect(add('a/b')).rejects.toThrow('letters, digits');
    await expect(add('a', '--granularity', '5000')).rejects.toThrow('power of two');
    await expect(add('a', '--granularity', '128M')).rejects.toThrow('4 KiB to 64 MiB');
    await add('a', '--granularity', '4K');
    await expect(add('a')).rejects.toThrow('already');
    await add('b');
    await expect(change('merge', 'a', 'b')).rejects.toThrow('granularity');
    await expect(change('clear', 'c')).rejects.toThrow('no bitmap "c"');
    await expect(bitmap('list', '9/xvda')).rejects.toThrow('no VBD');
    const { stderr } = await machine.daemon.cli(
      'export',
      'add',
      VBD,
      '--read-only',
      '--bitmap',
      'c',
    );
    expect(stderr).toContain('no bitmap "c"');
  });
});

describe('what has missed something', () => {
  it('is a bitmap of a disk that was detached, as when its guest reboots', async () => {
    await add('a');
    await add('b', '--disabled');
    await machine.unplug(guest);
    const image = machine.file('disk1.img');
    guest = await machine.plug(DISK_BYTES, `aio:${image}`);
    await guest.frontend.connect();
    const second = await bitmap('list', '2/xvda');
    expect(second.bitmaps).toMatchObject([
      { name: 'a', state: 'inconsistent', dirtyBytes: DISK_BYTES },
      { name: 'b', state: 'disabled' },
    ]);
    const asked = ['2/xvda', '--read-only', '--bitmap', 'a'];
    const { stderr } = await machine.daemon.cli('export', 'add', ...asked);
    expect(stderr).toContain('inconsistent');
    const { bitmap: cleared } = await bitmap('clear', '2/xvda', 'a');
    expect(cleared).toMatchObject({ state: 'recording', dirtyBytes: 0 });
    await write(0, MIB);
    expect((await bitmap('dump', '2/xvda', 'a')).extents).toEqual([{ offset: 0, length: MIB }]);
  });

  it('is not one whose guest has only connected anew', async () => {
    await add('a');
    await write(0, MIB);
    await guest.frontend.reconnect();
    await write(MIB, MIB);
    expect(await extents('a')).toEqual([{ offset: 0, length: 2 * MIB }]);
  });

  it('is one whose file is spoilt, or another disk’s', async () => {
    await add('a');
    await add('b');
    await machine.stopDaemon('SIGKILL');
    const folder = machine.file('bitmaps');
    const [first, second] = readdirSync(folder).sort();
    const bytes = readFileSync(`${folder}/${second}`);
    bytes.write('someone else', 32);
    writeFileSync(`${folder}/${second}`, bytes);
    writeFileSync(`${folder}/${first}`, 'rubbish');
    await machine.startDaemon();
    await write(0, MIB);
    expect(await list()).toMatchObject([
      { name: 'a', state: 'inconsistent', dirtyBytes: DISK_BYTES },
      { name: 'b', state: 'inconsistent', error: expect.stringContaining('another disk') },
    ]);
    expect(await extents('a')).toEqual([{ offset: 0, length: DISK_BYTES }]);
    expect(await change('clear', 'a')).toMatchObject({ state: 'recording' });
    await change('remove', 'b');
  });

  it('is unknown where the host was started anew', async () => {
    await add('a');
    await machine.stopDaemon('SIGKILL');
    rmSync(machine.file('bitmaps'), { recursive: true });
    await machine.startDaemon();
    expect(await list()).toEqual([]);
    await expect(extents('a')).rejects.toThrow('all of a disk counts as changed');
  });
});

describe('NBD clients', () => {
  const CONTEXT = 'qemu:dirty-bitmap:a';

  it('mark what they write as the guest does', async () => {
    const uri = await exported('--allow-writers', '--name', 'w');
    await add('a');
    await write(0, MIB);
    const script = `
import nbd
h = nbd.NBD()
h.connect_uri(${JSON.stringify(uri)})
h.pwrite(bytes(65536), 2 << 20)
h.zero(65536, 4 << 20)
h.trim(65536, 6 << 20)
h.shutdown()`;
    await client('/usr/bin/python3', '-c', script);
    expect(await extents('a')).toEqual([
      { offset: 0, length: MIB },
      { offset: 2 * MIB, length: CHUNK },
      { offset: 4 * MIB, length: CHUNK },
      { offset: 6 * MIB, length: CHUNK },
    ]);
  });

  it('are told by it: nbdinfo, qemu-img, and libnbd with both contexts', async () => {
    await add('a');
    await write(4 * MIB, MIB);
    const uri = await exported('--read-only', '--name', 'r', '--bitmap', 'a');
    const told = JSON.parse(await client('nbdinfo', `--map=${CONTEXT}`, '--json', uri));
    expect(told).toMatchObject([
      { offset: 0, length: 4 * MIB, type: 0 },
      { offset: 4 * MIB, length: MIB, type: 1 },
      { offset: 5 * MIB, length: DISK_BYTES - 5 * MIB, type: 0 },
    ]);
    const [, one] = JSON.parse(await client('nbdinfo', '--json', uri)).exports[0].contexts;
    expect(one).toBe(CONTEXT);
    const options =
      `driver=nbd,server.type=unix,server.path=${machine.file('nbd/r.sock')},` +
      `export=r,x-dirty-bitmap=${CONTEXT}`;
    const map = JSON.parse(
      await client('qemu-img', 'map', '--output=json', '--image-opts', options),
    );
    // QEMU shows what is dirty as what is not data.
    expect(map).toMatchObject([
      { start: 0, length: 4 * MIB, data: true },
      { start: 4 * MIB, length: MIB, data: false },
      { start: 5 * MIB, data: true },
    ]);
    const script = `
import nbd
h = nbd.NBD()
h.add_meta_context("base:allocation")
h.add_meta_context("${CONTEXT}")
h.connect_uri(${JSON.stringify(uri)})
found = {}
h.block_status(${DISK_BYTES}, 0, lambda c, o, e, error: found.setdefault(c, []).append(len(e)))
h.block_status(${DISK_BYTES}, 0, lambda c, o, e, error: found.setdefault(c, []).append(len(e)),
               nbd.CMD_FLAG_REQ_ONE)
print(sorted(found.items()))
h.shutdown()`;
    const said = await client('/usr/bin/python3', '-c', script);
    // One chunk each; all extents, then one.
    expect(said.trim()).toMatch(/^\[\('base:allocation', \[\d+, 2\]\), \('qemu:.*', \[6, 2\]\)\]$/);
  });

  it('copy what has changed, and have the same disk', async () => {
    await write(0, 8 * MIB);
    await add('a');
    const copy = machine.file('copy.img');
    const whole = await exported('--read-only', '--name', 'whole');
    await client('nbdcopy', whole, copy);
    await whileWriting(() => sleep(300));
    await add('b');
    await change('disable', 'a');
    const uri = await exported('--read-only', '--name', 'changed', '--bitmap', 'a');
    // As README has it.
    const script = `
      nbdinfo --map=${CONTEXT} "$1" | awk '$3 == 1 { print $1, $2 }' |
        while read -r offset length; do
          nbdkit --filter=offset nbd uri="$1" offset=$offset range=$length \\
            --run 'nbdcopy "$uri" -' </dev/null |
            dd of="$2" bs=1M seek=$offset oflag=seek_bytes conv=notrunc status=none
        done`;
    await client('bash', '-euo', 'pipefail', '-c', script, 'copy', uri, copy);
    await client('cmp', copy, machine.file('disk1.img'));
    await expect(change('clear', 'a')).rejects.toThrow('is exported');
    await expect(change('remove', 'a')).rejects.toThrow('is exported');
    await machine.daemon.cli('export', 'remove', 'changed');
    await change('remove', 'a');
  });

  it('find the bitmap again after a restart', async () => {
    await add('a');
    await write(0, MIB);
    const uri = await exported('--read-only', '--name', 'r', '--bitmap', 'a');
    await machine.killAndStartDaemon();
    const map = async () => {
      const told = await client('nbdinfo', `--map=${CONTEXT}`, '--json', uri).catch(() => '[]');
      return JSON.parse(told).filter(({ type }: { type: number }) => type === 1);
    };
    await expect.poll(map, { timeout: 10_000 }).toMatchObject([{ offset: 0, length: MIB }]);
    expect(await list()).toMatchObject([{ exported: true }]);
  });
});
