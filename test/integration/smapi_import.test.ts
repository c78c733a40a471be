// SPDX-License-Identifier: Apache-2.0
// Another host's NBD client, whose descriptor XAPI sends by SCM_RIGHTS to the socket that it was
// told of. The client asks for an export by a name of its own.
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createLogger } from '../../src/log.ts';
import { IMPORT_PROGRAM, Imports } from '../../src/smapi/imports.ts';
import { PYTHON, WrittenMarks } from '../../src/smapi/written_marks.ts';
import { MIB } from '../support/loopback_machine.ts';
import { client } from '../support/nbd_client.ts';
import { RestartMachine } from '../support/restart_machine.ts';
import { SmapiHost } from '../support/smapi_host.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });

let machine: RestartMachine;
let host: SmapiHost;
beforeEach(async () => {
  machine = await RestartMachine.start('--backend', 'qdisk');
  host = await SmapiHost.start(machine.runtimeDir);
});
afterEach(async () => {
  await machine.close();
  await host.end();
});

/** As XAPI: one end of a pair is sent, with a word that nobody reads; a client has the other. */
const SEND_AND_WRITE = `
import array, nbd, socket, sys
ours, theirs = socket.socketpair()
control = socket.socket(socket.AF_UNIX)
control.connect(sys.argv[1])
rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))
control.sendmsg([b"datapath"], [rights])
control.close()
theirs.close()
h = nbd.NBD()
h.set_export_name("a name of its own")
h.set_opt_mode(sys.argv[2] == "options")
h.connect_socket(ours.detach())
if sys.argv[2] == "options": h.opt_info(); h.opt_go()
print(h.get_size())
h.pwrite(b"M" * 65536, 4096)
h.flush()
h.shutdown()
`;

async function makeVolume(): Promise<{ sr: string; key: string; uri: string }> {
  const device = path.join(host.folder, 'sdb');
  writeFileSync(device, '');
  const uuid = '5c1f0a2b-0000-4000-8000-000000000001';
  const made = { uuid, name: 'zfs', description: '', configuration: { device } };
  const configuration = await host.call('SR.create', made);
  const sr = await host.call('SR.attach', { configuration });
  const wish = { sr, name: 'disk0', description: '', size: 32 * MIB, sharable: false };
  const { key, uri } = await host.call('Volume.create', wish);
  return { sr, key, uri: uri[0] };
}

async function expectWritten({ sr, key }: { sr: string; key: string }): Promise<void> {
  const written = await client('dd', `if=${path.join(host.folder, sr, key)}`, 'bs=4096', 'count=2');
  expect(written.slice(4096, 4100)).toBe('MMMM');
}

test.each(['plain', 'options'])('writes to the volume, in its own %s way', async (how) => {
  const volume = await makeVolume();
  const call = { uri: volume.uri, domain: 'MIR1a2b3c' };
  await host.call('Datapath.attach', call);
  await host.call('Datapath.activate', call);
  const socket = await host.call('Datapath.import_activate', { ...call, domain: '0' });
  const told = await client('/usr/bin/python3', '-c', SEND_AND_WRITE, socket, how);
  expect(told.trim()).toBe(String(32 * MIB));
  await host.call('Datapath.deactivate', call);
  await host.call('Datapath.detach', call);
  await expectWritten(volume);
});

test('is taken by a process of systemd’s, where it listens for that', async () => {
  const volume = await makeVolume();
  const call = { uri: volume.uri, domain: 'MIR1a2b3c' };
  const backend = await host.call('Datapath.attach', call);
  await host.call('Datapath.activate', call);
  const [, socket = '', name = ''] =
    /^nbd:unix:(.*):exportname=(.*)$/.exec(backend.implementations[1][1].uri) ?? [];
  // As ringdisk-import.socket and its service have it.
  const program = path.join(host.script('Datapath.attach'), '..', IMPORT_PROGRAM);
  const systemd = createServer({ pauseOnConnect: true }, (asked) => {
    spawn(PYTHON, ['-IS', program], { stdio: [asked, asked, 'inherit'] });
    asked.destroy();
  });
  const service = path.join(host.folder, 'import.sock');
  await new Promise<void>((resolve) => systemd.listen(service, resolve));
  const log = createLogger({ level: 'silent' });
  const imports = new Imports(host.runtimeDir, new WrittenMarks(host.runtimeDir), log, service);
  const { sr, key } = volume;
  const place = await imports.expect({ socket, name, size: 32 * MIB, volume: { sr, key } });
  systemd.close();
  await client('/usr/bin/python3', '-c', SEND_AND_WRITE, place, 'plain');
  await host.call('Datapath.deactivate', call);
  await expectWritten(volume);
});
