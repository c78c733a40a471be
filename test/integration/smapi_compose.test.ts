// SPDX-License-Identifier: Apache-2.0
// A disk comes in from an SMAPIv1 SR while its guest writes, by XAPI's calls in their order: what
// the guest writes goes to one volume, what it had to another; at the end one lies on the other.
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { MIB } from '../support/loopback_machine.ts';
import { client } from '../support/nbd_client.ts';
import { RestartMachine } from '../support/restart_machine.ts';
import { SmapiHost } from '../support/smapi_host.ts';

const SIZE = 40 * MIB;
const DOMAIN = 'MIR1a2b3c';
vi.setConfig({ testTimeout: 180_000, hookTimeout: 120_000 });

let machine: RestartMachine;
let host: SmapiHost;
let sr: string;
beforeEach(async () => {
  machine = await RestartMachine.start('--backend', 'qdisk');
  host = await SmapiHost.start(machine.runtimeDir);
  const device = path.join(host.folder, 'sdb');
  writeFileSync(device, '');
  const uuid = '5c1f0a2b-0000-4000-8000-000000000001';
  const wish = { uuid, name: 'zfs', description: '', configuration: { device } };
  sr = await host.call('SR.attach', { configuration: await host.call('SR.create', wish) });
});
afterEach(async () => {
  await machine.close();
  await host.end();
});

interface Volume {
  key: string;
  uri: string;
}

async function makeVolume(): Promise<Volume> {
  const wish = { sr, name: 'disk0', description: '', size: SIZE, sharable: false };
  const { key, uri } = await host.call('Volume.create', wish);
  return { key, uri: uri[0] };
}

const file = ({ key }: Volume) => path.join(host.folder, sr, key);

async function released({ uri }: Volume, domain: string): Promise<void> {
  await host.call('Datapath.deactivate', { uri, domain });
  await host.call('Datapath.detach', { uri, domain });
}

/** Each word: offset, length, byte. 255: zeroes, by a command of their own; no length: a pause. */
const WRITE = `
import array, nbd, socket, sys, time
h = nbd.NBD()
if sys.argv[1] == "descriptor":
    ours, theirs = socket.socketpair()
    control = socket.socket(socket.AF_UNIX)
    control.connect(sys.argv[2])
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))
    control.sendmsg([b"datapath"], [rights])
    control.close(); theirs.close()
    h.set_export_name("any")
    h.connect_socket(ours.detach())
else:
    h.connect_uri(sys.argv[2])
for words in sys.argv[3:]:
    offset, length, byte = (int(word) for word in words.split(","))
    if length == 0: h.flush(); time.sleep(3)
    elif byte == 255: h.zero(length, offset)
    else: h.pwrite(bytes([byte]) * length, offset)
h.flush()
h.shutdown()
`;

type Write = [offset: number, length: number, byte: number];
const PAUSE: Write = [0, 0, 0];

async function write(how: 'descriptor' | 'uri', where: string, writes: Write[]): Promise<void> {
  const words = writes.map((one) => one.join(','));
  await client('/usr/bin/python3', '-c', WRITE, how, where, ...words);
}

/** What the guest had, which is copied meanwhile. */
async function copied(parent: Volume): Promise<void> {
  const domain = 'CP1a2b3c';
  const backend = await host.call('Datapath.attach', { uri: parent.uri, domain });
  await host.call('Datapath.activate', { uri: parent.uri, domain });
  const [, socket, name] = /^nbd:unix:(.*):exportname=(.*)$/.exec(
    backend.implementations[1][1].uri,
  ) ?? ['', '', ''];
  const pieces = Array.from({ length: 40 }, (_, n): Write => [n * MIB, MIB, 7]);
  await write('uri', `nbd+unix:///${name}?socket=${socket}`, pieces);
  await released(parent, domain);
}

/** The child with the dummy snapshot that XAPI makes of it, and a client's socket. */
async function receiving() {
  const child = await makeVolume();
  const dummy = await host.call('Volume.snapshot', { sr, key: child.key });
  await host.call('Datapath.attach', { uri: child.uri, domain: DOMAIN });
  await host.call('Datapath.activate', { uri: child.uri, domain: DOMAIN });
  const parent = await makeVolume();
  const socket = await host.call('Datapath.import_activate', { uri: child.uri, domain: DOMAIN });
  return { child, dummy, parent, socket };
}

/** Sectors, pages, much at once, zeroes of both kinds, the last sector, one place twice. */
const WRITES: Write[] = [
  [512, 512, 1],
  [3 * 512, 512, 0],
  [65536 + 1024, 3 * 512, 2],
  [MIB, 4096, 3],
  [2 * MIB + 512, 5 * MIB, 4],
  [16 * MIB, 8192, 255],
  [20 * MIB, 65536, 5],
  [20 * MIB + 512, 1024, 6],
  [SIZE - 512, 512, 8],
];

function expected(writes: Write[]): Buffer {
  const whole = Buffer.alloc(SIZE, 7);
  for (const [offset, length, byte] of writes) {
    whole.fill(byte === 255 ? 0 : byte, offset, offset + length);
  }
  return whole;
}

test('each sector is the newest one, and the disk keeps its name', async () => {
  const { child, dummy, parent, socket } = await receiving();
  await Promise.all([write('descriptor', socket, WRITES), copied(parent)]);
  await released(child, DOMAIN);
  const before = await host.call('Volume.stat', { sr, key: child.key });
  const call = { sr, key: child.key, key2: parent.key };
  expect(await host.call('Volume.compose', call)).toBeNull();
  expect(readFileSync(file(child)).equals(expected(WRITES))).toBe(true);
  expect(await host.call('Volume.stat', { sr, key: child.key })).toEqual(before);
  expect(await host.call('Volume.destroy', { sr, key: dummy.key })).toBeNull();
  const left = await host.call('SR.ls', { sr });
  expect(left.map(({ key }: { key: string }) => key)).toEqual([child.key]);
  // It has happened: what was marked is no longer of use.
  expect((await host.failure('Volume.compose', call)).code).toBe('Volume_does_not_exist');
});

test('what was written is known to the manager that comes after', async () => {
  const { child, parent, socket } = await receiving();
  const written = write('descriptor', socket, [...WRITES.slice(0, 5), PAUSE, ...WRITES.slice(5)]);
  await sleep(1000);
  await host.stopManager();
  await host.startManager();
  await written;
  await copied(parent);
  await released(child, DOMAIN);
  await host.call('Volume.compose', { sr, key: child.key, key2: parent.key });
  expect(readFileSync(file(child)).equals(expected(WRITES))).toBe(true);
});

test('nothing is guessed: without marks, or where a guest has written, it is refused', async () => {
  const { child, parent, socket } = await receiving();
  const call = { sr, key: child.key, key2: parent.key };
  expect((await host.failure('Volume.compose', call)).params[2]).toMatch(/activated for MIR/);
  await write('descriptor', socket, WRITES);
  await released(child, DOMAIN);
  await host.call('Datapath.attach', { uri: child.uri, domain: '0' });
  await host.call('Datapath.activate', { uri: child.uri, domain: '0' });
  await released(child, '0');
  const { code, params } = await host.failure('Volume.compose', call);
  expect([code, params[2]]).toEqual([
    'SR_BACKEND_FAILURE_46',
    `what was written to ${child.key} since it was made is not known`,
  ]);
  // Neither of them is another one now.
  expect(await host.call('SR.ls', { sr })).toHaveLength(3);
});
