// SPDX-License-Identifier: Apache-2.0
// A volume's way to a guest as XAPI goes it: the datapath plugin's executables, the daemon, the
// nodes that xenopsd writes and takes away, NBD's clients in dom0.
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { expectWriteAndVerify, MIB, timed } from '../support/loopback_machine.ts';
import { client } from '../support/nbd_client.ts';
import { RestartMachine } from '../support/restart_machine.ts';
import { SmapiHost } from '../support/smapi_host.ts';
import {
  askForUnplug,
  plugXapiDisk,
  takeNodesAway,
  unplugHard,
  type XapiDisk,
} from '../support/xapi_toolstack.ts';

const SIZE = 64 * MIB;
/** A daemon is started, and some interpreters. */
const HOOK_MS = 60_000;
// Each call starts one, and a drain is waited for.
vi.setConfig({ testTimeout: 120_000 });

let machine: RestartMachine;
let host: SmapiHost;
let sr: string;
beforeEach(async () => {
  machine = await RestartMachine.start('--backend', 'qdisk');
  host = await SmapiHost.start(machine.runtimeDir);
  const device = path.join(host.folder, 'sdb');
  writeFileSync(device, '');
  const uuid = '5c1f0a2b-0000-4000-8000-000000000001';
  const configuration = { device };
  const wish = { uuid, name: 'zfs', description: '', configuration };
  sr = await host.call('SR.attach', { configuration: await host.call('SR.create', wish) });
}, HOOK_MS);
afterEach(async () => {
  await machine.close();
  await host.end();
}, HOOK_MS);

interface Volume {
  key: string;
  uri: string;
}

async function makeVolume(): Promise<Volume> {
  const wish = { sr, name: 'disk0', description: '', size: SIZE, sharable: false };
  const { key, uri } = await host.call('Volume.create', wish);
  return { key, uri: uri[0] };
}

async function attached({ uri }: Volume, domain: string, how = 'activate') {
  const backend = await host.call('Datapath.attach', { uri, domain });
  expect(await host.call(`Datapath.${how}`, { uri, domain })).toBeNull();
  return backend;
}

async function released({ uri }: Volume, domain: string): Promise<void> {
  for (const method of ['Datapath.deactivate', 'Datapath.detach']) {
    expect(await host.call(method, { uri, domain })).toBeNull();
  }
}

/** VM.start's part of it. */
async function started(volume: Volume, domid: number) {
  const backend = await attached(volume, String(domid));
  const guest = machine.guestOf(await plugXapiDisk(machine.xenstore, backend, domid));
  await guest.frontend.connect();
  return guest;
}

function nbdUri(backend: { implementations: [string, { uri?: string }][] }): string {
  const [, socket, name] = /^nbd:unix:(.*):exportname=(.*)$/.exec(
    backend.implementations[1]?.[1].uri ?? '',
  ) ?? ['', '', ''];
  return `nbd+unix:///${name}?socket=${socket}`;
}

async function exportsNow(): Promise<{ readOnly: boolean; clients: number }[]> {
  const { stdout } = await machine.daemon.cli('export', 'list', '--json');
  return JSON.parse(stdout).result.exports;
}

async function isGone({ paths }: { paths: XapiDisk }): Promise<boolean> {
  return (await machine.xenstore.read(`${paths.backend}/frontend`)) === undefined;
}

test('what is attached is a qdisk with our mark and an export, in XAPI’s form', async () => {
  const { uri } = await makeVolume();
  const backend = await host.call('Datapath.attach', { uri, domain: '12' });
  expect(await host.call('Datapath.attach', { uri, domain: '0' })).toEqual(backend);
  const { uuid } = (await host.call('SR.ls', { sr }))[0];
  const socket = `${machine.runtimeDir}/nbd/${uuid}.sock`;
  expect(backend.implementations).toEqual([
    ['XenDisk', { backend_type: 'qdisk', params: '', extra: { 'ringdisk-id': uuid } }],
    ['Nbd', { uri: `nbd:unix:${socket}:exportname=${uuid}` }],
  ]);
  // Attached alone it is open nowhere.
  expect(await exportsNow()).toEqual([]);
});

test('the guest and QEMU’s emulated disk see one disk, and its device is the volume', async () => {
  const volume = await makeVolume();
  const backend = await attached(volume, '12');
  const uri = nbdUri(backend);
  const qemu = [
    'import nbd, sys',
    'h = nbd.NBD(); h.connect_uri(sys.argv[1])',
    'h.pwrite(b"B" * 4096, 0); h.flush()',
    'h.shutdown()',
  ];
  await client('/usr/bin/python3', '-c', qemu.join('\n'), uri);
  const guest = machine.guestOf(await plugXapiDisk(machine.xenstore, backend, 12));
  await guest.frontend.connect();
  const { target } = (await machine.show(guest)) as { target: { kind: string; path: string } };
  expect(target).toMatchObject({ kind: 'file', path: path.join(host.folder, sr, volume.key) });
  await expectWriteAndVerify(guest.frontend, { offset: 8 * MIB });
  const read =
    'import nbd, sys\nh = nbd.NBD(); h.connect_uri(sys.argv[1])\nprint(h.pread(512, 0)[:4])';
  expect(await client('/usr/bin/python3', '-c', read, uri)).toContain('BBBB');
  // Half of it is written: 8 MiB and a block.
  const map = JSON.parse(await client('nbdinfo', '--map', '--json', uri));
  const data = map.filter(({ type }: { type: number }) => type === 0);
  const bytes = data.reduce((sum: number, { length }: { length: number }) => sum + length, 0);
  expect(bytes).toBeLessThan(9 * MIB);
});

describe('deactivate is over when the guest’s I/O is', () => {
  const ways: [string, (disk: XapiDisk) => Promise<void>][] = [
    [
      'in a clean unplug, whose nodes go while the backend is at work',
      async (disk) => {
        await askForUnplug(machine.xenstore, disk);
        await takeNodesAway(machine.xenstore, disk);
      },
    ],
    ['when all nodes go at once', (disk) => takeNodesAway(machine.xenstore, disk)],
    [
      'in a hard shutdown',
      async (disk) => {
        await unplugHard(machine.xenstore, disk);
      },
    ],
  ];
  test.each(ways)('%s', async (_name, unplug) => {
    const volume = await makeVolume();
    const guest = await started(volume, 12);
    const load = guest.frontend.run(timed('write', 60_000)).catch(() => undefined);
    await unplug(guest.paths);
    await released(volume, '12');
    expect(await exportsNow()).toEqual([]);
    await takeNodesAway(machine.xenstore, guest.paths);
    guest.frontend.cancel();
    await load;
    expect(await isGone(guest)).toBe(true);
    // Nobody has it open any more.
    expect(await host.call('Volume.destroy', { sr, key: volume.key })).toBeNull();
  });

  test('and says who has not let go', async () => {
    const volume = await makeVolume();
    await started(volume, 12);
    const failure = await host.failure('Datapath.deactivate', { uri: volume.uri, domain: '12' });
    expect(failure).toMatchObject({
      code: 'SR_BACKEND_FAILURE_24',
      params: ['', 'The VDI is currently in use', 'qdisk/12/51712 has not let go of it'],
    });
    expect(await exportsNow()).toHaveLength(1);
  });
});

test('all of it is idempotent, and for whoever does not have it nothing', async () => {
  const volume = await makeVolume();
  const { uri } = volume;
  await attached(volume, '12');
  await attached(volume, '12');
  await released(volume, '13');
  expect(await exportsNow()).toHaveLength(1);
  expect((await host.failure('Volume.destroy', { sr, key: volume.key })).params[2]).toBe(
    'it is activated for 12',
  );
  await released(volume, '12');
  await released(volume, '12');
  expect(await exportsNow()).toEqual([]);
  // A volume that is gone is detached as any other.
  await host.call('Datapath.attach', { uri, domain: 'u0_vbd_0_xvdb' });
  await host.call('Volume.destroy', { sr, key: volume.key });
  expect(await host.call('Datapath.detach', { uri, domain: 'u0_vbd_0_xvdb' })).toBeNull();
});

test('readers may come while the guest writes, and snapshots are read by several', async () => {
  const volume = await makeVolume();
  const guest = await started(volume, 12);
  await expectWriteAndVerify(guest.frontend);
  const snapshot = await host.call('Volume.snapshot', { sr, key: volume.key });
  const frozen = { key: snapshot.key, uri: snapshot.uri[0] };
  await attached(volume, 'CP1a2b3c', 'activate_readonly');
  const backends = [
    await attached(frozen, 'CP1a2b3c', 'activate_readonly'),
    await attached(frozen, 'u0_vbd_0_xvdb', 'activate_readonly'),
  ];
  for (const backend of backends) {
    const told = JSON.parse(await client('nbdinfo', '--json', nbdUri(backend)));
    expect(told.exports[0]).toMatchObject({ is_read_only: true, 'export-size': SIZE });
  }
  await released(volume, 'CP1a2b3c');
  await released(frozen, 'CP1a2b3c');
  await released(frozen, 'u0_vbd_0_xvdb');
  await expectWriteAndVerify(guest.frontend);
  expect(await exportsNow()).toHaveLength(1);
});

test('a disk that is not persistent is new each time, and leaves nothing', async () => {
  const volume = await makeVolume();
  const { uri } = volume;
  expect(await host.call('Datapath.open', { uri, persistent: false })).toBeNull();
  const guest = await started(volume, 12);
  await expectWriteAndVerify(guest.frontend);
  expect(await host.call('SR.ls', { sr })).toHaveLength(1);
  await takeNodesAway(machine.xenstore, guest.paths);
  await released(volume, '12');
  expect(await host.call('Datapath.close', { uri })).toBeNull();
  expect(await host.call('Datapath.close', { uri })).toBeNull();
  expect(await host.volumes.listVolumes()).toHaveLength(1);
  const key = path.join(host.folder, sr, volume.key);
  expect(await client('du', '--block-size=1', key)).toMatch(/^0\s/);
});

test('a guest learns that its volume has grown', async () => {
  const volume = await makeVolume();
  const guest = await started(volume, 12);
  await host.call('Volume.resize', { sr, key: volume.key, new_size: 2 * SIZE });
  expect(await guest.frontend.capacity()).toBe(2 * SIZE);
});

describe('who dies', () => {
  test('the manager: the next one knows what is attached, and for whom', async () => {
    const volume = await makeVolume();
    const guest = await started(volume, 12);
    await host.stopManager();
    await host.startManager();
    await attached(volume, '12');
    await expectWriteAndVerify(guest.frontend);
    await takeNodesAway(machine.xenstore, guest.paths);
    await released(volume, '12');
    expect(await exportsNow()).toEqual([]);
  });

  test('the daemon: the guest goes on, the export comes back, and XAPI waits for it', async () => {
    const volume = await makeVolume();
    const guest = await started(volume, 12);
    await machine.stopDaemon('SIGKILL');
    const later = attached(volume, 'u0_vbd_0_xvdb', 'activate_readonly');
    await machine.startDaemon('--backend', 'qdisk');
    await later;
    await expectWriteAndVerify(guest.frontend);
    await takeNodesAway(machine.xenstore, guest.paths);
    await released(volume, '12');
    await released(volume, 'u0_vbd_0_xvdb');
    expect(await exportsNow()).toEqual([]);
  });
});
