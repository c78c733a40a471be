// SPDX-License-Identifier: Apache-2.0
// A guest's disk follows it to another host by XAPI's calls, in the order in which it makes them,
// through its proxy: that is opened while we are told of it, and takes one connection.
import { readFileSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { expectWriteAndVerify, MIB, timed } from '../support/loopback_machine.ts';
import { RestartMachine } from '../support/restart_machine.ts';
import { SmapiHost } from '../support/smapi_host.ts';
import { plugXapiDisk, takeNodesAway } from '../support/xapi_toolstack.ts';

const SIZE = 32 * MIB;
const MIRROR_DOMAIN = 'MIR1a2b3c';
const STAT_MS = 60_000;
const STAT_PAUSE_MS = 20;
vi.setConfig({ testTimeout: 180_000, hookTimeout: 120_000 });

interface Volume {
  key: string;
  uri: string;
  file: string;
}

/** One host: its daemon, its manager, an SR. */
class Side {
  readonly machine: RestartMachine;
  readonly smapi: SmapiHost;
  readonly sr: string;

  static async start(): Promise<Side> {
    const machine = await RestartMachine.start('--backend', 'qdisk');
    const smapi = await SmapiHost.start(machine.runtimeDir);
    const device = path.join(smapi.folder, 'sdb');
    writeFileSync(device, '');
    const uuid = '5c1f0a2b-0000-4000-8000-000000000001';
    const wish = { uuid, name: 'zfs', description: '', configuration: { device } };
    const configuration = await smapi.call('SR.create', wish);
    return new Side(machine, smapi, await smapi.call('SR.attach', { configuration }));
  }

  private constructor(machine: RestartMachine, smapi: SmapiHost, sr: string) {
    this.machine = machine;
    this.smapi = smapi;
    this.sr = sr;
  }

  async volume(): Promise<Volume> {
    const wish = { sr: this.sr, name: 'disk0', description: '', size: SIZE, sharable: false };
    const { key, uri } = await this.smapi.call('Volume.create', wish);
    return { key, uri: uri[0], file: path.join(this.smapi.folder, this.sr, key) };
  }

  async attach({ uri }: Volume, domain: string) {
    const backend = await this.smapi.call('Datapath.attach', { uri, domain });
    const [, nbd] = backend.implementations;
    const [, socket = '', name = ''] = /^nbd:unix:(.*):exportname=(.*)$/.exec(nbd[1].uri) ?? [];
    return { backend, socket, name };
  }

  async activate({ uri }: Volume, domain: string): Promise<void> {
    await this.smapi.call('Datapath.activate', { uri, domain });
  }

  async release({ uri }: Volume, domain: string): Promise<void> {
    await this.smapi.call('Datapath.deactivate', { uri, domain });
    await this.smapi.call('Datapath.detach', { uri, domain });
  }

  async plug(volume: Volume, domid: number) {
    const { backend } = await this.attach(volume, String(domid));
    await this.activate(volume, String(domid));
    return this.machine.guestOf(await plugXapiDisk(this.machine.xenstore, backend, domid));
  }

  async exports(): Promise<{ readOnly: boolean }[]> {
    const { stdout } = await this.machine.daemon.cli('export', 'list', '--json');
    return JSON.parse(stdout).result.exports;
  }

  async end(): Promise<void> {
    await this.machine.close();
    await this.smapi.end();
  }
}

let source: Side;
let destination: Side;
let proxy: Server | undefined;
beforeEach(async () => {
  [source, destination] = [await Side.start(), await Side.start()];
});
afterEach(async () => {
  proxy?.close();
  await source.end();
  await destination.end();
});

/** The first connection goes on to `socket`; others are taken by nobody. */
function openProxy(place: string, socket: string): { cut: () => void } {
  let cut = () => {};
  let hasOne = false;
  proxy = createServer((client) => {
    client.on('error', () => {});
    if (hasOne) return;
    hasOne = true;
    const server = connect(socket);
    server.on('error', () => client.destroy());
    client.pipe(server).pipe(client);
    client.on('close', () => server.destroy());
    server.on('close', () => client.destroy());
    cut = () => client.destroy();
  });
  proxy.listen(place);
  return { cut: () => cut() };
}

/** Everything up to Data.mirror's answer. */
async function mirrored() {
  const [from, to] = [await source.volume(), await destination.volume()];
  const guest = await source.plug(from, 12);
  await guest.frontend.connect();
  await expectWriteAndVerify(guest.frontend);
  const { socket, name } = await destination.attach(to, MIRROR_DOMAIN);
  await destination.activate(to, MIRROR_DOMAIN);
  const place = path.join(source.machine.runtimeDir, MIRROR_DOMAIN);
  const call = { uri: from.uri, domain: '12', remote: `nbd+unix:///${name}?socket=${place}` };
  await source.attach(from, 'u0_mirror_vbd_12_xvda');
  const asked = source.smapi.call('Data.mirror', call);
  await sleep(300);
  const { cut } = openProxy(place, socket);
  const operation = await asked;
  return { from, to, guest, operation, cut };
}

type Operation = [string, string];

async function statUntil(operation: Operation, isOver: (status: Status) => boolean) {
  const seen: Status[] = [];
  // By time: while nothing is missing there, Data.stat answers at once.
  for (const deadline = performance.now() + STAT_MS; performance.now() < deadline; ) {
    const status: Status = await source.smapi.call('Data.stat', { operation });
    seen.push(status);
    if (isOver(status)) return seen;
    await sleep(STAT_PAUSE_MS);
  }
  throw new Error(`it is not over: ${JSON.stringify(seen.at(-1))}`);
}

interface Status {
  failed: boolean;
  complete: boolean;
  progress?: number;
}

test('all that the guest was answered for is there when it has gone', async () => {
  const { from, to, guest, operation } = await mirrored();
  expect(operation).toEqual(['MirrorV1', from.uri]);
  const seen = await statUntil(operation, ({ complete }) => complete);
  expect(seen.every(({ failed }) => !failed)).toBe(true);
  // Nobody but the guest writes meanwhile; XAPI reads the snapshots and the disk beside it.
  expect(await source.exports()).toMatchObject([{ readOnly: true }]);
  const load = guest.frontend.run(timed('write', 1500, { offset: 16 * MIB, length: 8 * MIB }));
  expect((await load).errors).toBe(0);
  expect(await source.smapi.call('Data.stat', { operation })).toMatchObject({ complete: true });
  // The guest's other end is offered its disk, and has it when the mirror's has gone.
  const moved = await destination.plug(to, 13);
  const connected = moved.frontend.connect();
  await takeNodesAway(source.machine.xenstore, guest.paths);
  await source.release(from, '12');
  await source.release(from, 'u0_mirror_vbd_12_xvda');
  await destination.release(to, MIRROR_DOMAIN);
  await connected;
  expect(readFileSync(to.file).equals(readFileSync(from.file))).toBe(true);
  await expectWriteAndVerify(moved.frontend);
  expect(await source.exports()).toEqual([]);
  expect(await destination.exports()).toMatchObject([{ readOnly: false }]);
  await source.smapi.call('Volume.destroy', { sr: source.sr, key: from.key });
});

describe('a mirror that breaks', () => {
  test('has failed and is never complete, and the guest notices nothing', async () => {
    const { from, guest, operation, cut } = await mirrored();
    await statUntil(operation, ({ complete }) => complete);
    cut();
    const load = guest.frontend.run(timed('write', 500));
    const seen = await statUntil(operation, ({ failed }) => failed);
    expect(seen.at(-1)).toEqual({ failed: true, complete: false });
    expect((await load).errors).toBe(0);
    // Its clients may write again, and another mirror may begin.
    expect(await source.exports()).toMatchObject([{ readOnly: false }]);
    await takeNodesAway(source.machine.xenstore, guest.paths);
    await source.release(from, '12');
    expect(await source.smapi.call('Data.stat', { operation })).toEqual({
      failed: true,
      complete: false,
    });
  });

  test('or is called off leaves nothing behind', async () => {
    const { from, to, guest, operation } = await mirrored();
    expect(await source.smapi.call('Data.ls', {})).toEqual([operation]);
    expect(await source.smapi.call('Data.cancel', { operation })).toBeNull();
    expect(await source.smapi.call('Data.ls', {})).toEqual([]);
    await destination.release(to, MIRROR_DOMAIN);
    await destination.smapi.call('Volume.destroy', { sr: destination.sr, key: to.key });
    expect(await destination.exports()).toEqual([]);
    await expectWriteAndVerify(guest.frontend);
    expect((await source.machine.show(guest))['mirror']).toBeUndefined();
    await takeNodesAway(source.machine.xenstore, guest.paths);
    await source.release(from, '12');
  });
});

test('of a disk that no guest uses there is no mirror', async () => {
  const from = await source.volume();
  await source.attach(from, '12');
  const call = { uri: from.uri, domain: '12', remote: 'nbd+unix:///e?socket=/nowhere' };
  const { code, params } = await source.smapi.failure('Data.mirror', call);
  expect([code, params[2]]).toEqual([
    'SR_BACKEND_FAILURE_46',
    'no guest of domain 12 uses it: only a disk in use is mirrored',
  ]);
});
