// SPDX-License-Identifier: Apache-2.0
// Metrics as XAPI's collector gets them: guests' I/O, the daemon's stats pages, the manager, the
// file, and a reader that is not ours.
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { MIB, workload } from '../support/loopback_machine.ts';
import { RestartMachine } from '../support/restart_machine.ts';
import { type ReadSource, Rrdd } from '../support/rrdd.ts';
import { SmapiHost } from '../support/smapi_host.ts';
import { plugXapiDisk } from '../support/xapi_toolstack.ts';

const SR_UUID = '5c1f0a2b-0000-4000-8000-000000000001';
const HOOK_MS = 60_000;
const PATIENCE_MS = 60_000;
vi.setConfig({ testTimeout: 180_000 });

let machine: RestartMachine;
let rrdd: Rrdd;
let host: SmapiHost;
let sr: string;
let lastRead = 0;
beforeEach(async () => {
  lastRead = 0;
  machine = await RestartMachine.start('--backend', 'qdisk');
  rrdd = new Rrdd(machine.runtimeDir);
  await rrdd.start();
  host = await SmapiHost.start(machine.runtimeDir, {
    folder: rrdd.folder,
    rrddSocket: rrdd.socket,
    openXenstore: async () => machine.xenstore,
  });
  const device = path.join(host.folder, 'sdb');
  writeFileSync(device, '');
  const wish = { uuid: SR_UUID, name: 'zfs', description: '', configuration: { device } };
  sr = await host.call('SR.attach', { configuration: await host.call('SR.create', wish) });
}, HOOK_MS);
afterEach(async () => {
  await rrdd.stop();
  await machine.close();
  await host.end();
}, HOOK_MS);

function vmOf(domid: number): string {
  return `6b1e3c1e-0000-4000-8000-00000000000${domid}`;
}

async function startGuest(domid: number) {
  const wish = { sr, name: 'disk0', description: '', size: 64 * MIB, sharable: false };
  const { uri } = await host.call('Volume.create', wish);
  const disk = { uri: uri[0], domain: String(domid) };
  const backend = await host.call('Datapath.attach', disk);
  await host.call('Datapath.activate', disk);
  await machine.xenstore.write(`/local/domain/${domid}/vm`, `/vm/${vmOf(domid)}`);
  const guest = machine.guestOf(await plugXapiDisk(machine.xenstore, backend, domid));
  await guest.frontend.connect({ queues: 2 });
  return guest;
}

/** Reads as rrdd does until `isRight`, and gives all that was new on the way. */
async function readUntil(isRight: (sources: ReadSource[]) => boolean): Promise<ReadSource[][]> {
  const readings: ReadSource[][] = [];
  for (const deadline = Date.now() + PATIENCE_MS; Date.now() < deadline; await sleep(20)) {
    if (!rrdd.isRegistered('ringdisk')) continue;
    const { timestamp, sources } = rrdd.read('ringdisk');
    if (timestamp === lastRead) continue;
    lastRead = timestamp;
    readings.push(sources);
    if (isRight(sources)) return readings;
  }
  throw new Error(`not what was expected: ${JSON.stringify(readings.at(-1))}`);
}

function find(sources: ReadSource[], owner: string, name: string): ReadSource | undefined {
  return sources.find((source) => source.owner === owner && source.name === name);
}

function figure(sources: ReadSource[], owner: string, name: string): number {
  const found = find(sources, owner, name);
  if (!found) throw new Error(`no ${name} of ${owner}`);
  return found.value;
}

const hasDisk = (domid: number) => (sources: ReadSource[]) =>
  find(sources, `vm ${vmOf(domid)}`, 'vbd_xvda_read') !== undefined;

const hasSr = (sources: ReadSource[]) => find(sources, 'host', 'write_5c1f0a2b') !== undefined;

test('guests’ disks and their SR, under the names that XAPI’s users look for', async () => {
  const guests = [await startGuest(1), await startGuest(2)];
  await readUntil((sources) => hasDisk(1)(sources) && hasDisk(2)(sources) && hasSr(sources));
  const wrote = 8 * MIB;
  const read = readUntil((sources) => figure(sources, `vm ${vmOf(2)}`, 'vbd_xvda_write') === wrote);
  const counts = await Promise.all(
    guests.map(({ frontend }) => frontend.run(workload('write', { length: wrote }))),
  );
  const readings = [...(await read), ...(await readUntil(isIdle))];
  for (const [index, { requests }] of counts.entries()) {
    const owner = `vm ${vmOf(index + 1)}`;
    const sum = (name: string) =>
      readings.reduce((all, sources) => all + figure(sources, owner, name), 0);
    expect(sum('vbd_xvda_iops_write')).toBe(requests);
    expect(sum('vbd_xvda_iops_read')).toBe(0);
    expect(sum('vbd_xvda_io_throughput_write')).toBeCloseTo(8, 6);
    expect(
      Math.max(...readings.map((one) => figure(one, owner, 'vbd_xvda_latency'))),
    ).toBeGreaterThan(0);
  }
  const last = readings.at(-1) ?? [];
  expect(figure(last, 'host', 'write_5c1f0a2b')).toBe(2 * wrote);
  expect(find(last, 'host', 'iops_total_5c1f0a2b')).toMatchObject({
    type: 'absolute',
    value_type: 'int64',
    units: 'requests/s',
  });
  expect(figure(last, 'host', 'zpool_health_5c1f0a2b')).toBe(0);
  expect(figure(last, `sr ${SR_UUID}`, 'physical_utilisation')).toBe(0);
  expect((await host.call('SR.stat', { sr })).datasources).toEqual([]);
});

function isIdle(sources: ReadSource[]): boolean {
  return [1, 2].every((domid) => figure(sources, `vm ${vmOf(domid)}`, 'vbd_xvda_iops_write') === 0);
}

test('the daemon is not asked: it may stand still, or be away', async () => {
  const { frontend } = await startGuest(1);
  await frontend.run(workload('write', { length: MIB }));
  await readUntil(hasDisk(1));
  const { child } = machine.daemon.started;
  child.kill('SIGSTOP');
  const stopped = (await readUntil(hasDisk(1))).at(-1) ?? [];
  child.kill('SIGCONT');
  await machine.stopDaemon('SIGKILL');
  const away = (await readUntil(hasDisk(1))).at(-1) ?? [];
  await machine.startDaemon('--backend', 'qdisk');
  await frontend.run(workload('read', { length: MIB }));
  const owner = `vm ${vmOf(1)}`;
  const back = await readUntil((sources) => figure(sources, owner, 'vbd_xvda_read') === MIB);
  const written = [stopped, away, ...back].map((one) => figure(one, owner, 'vbd_xvda_write'));
  // What ever grows never becomes less, also where the counters begin anew.
  expect(written).toEqual([...written].sort((a, b) => a - b));
});

test('rrdd is told when it is there, again when it comes back, and at the end', async () => {
  await readUntil(() => true);
  await rrdd.stop();
  await sleep(1000);
  await rrdd.start();
  await readUntil(() => true);
  expect(rrdd.isReadInPlace('ringdisk')).toBe(true);
  await host.stopManager();
  expect(rrdd.isRegistered('ringdisk')).toBe(false);
  expect(rrdd.calls.at(-1)).toBe('Plugin.Local.deregister');
  // A manager that was killed has left its file: rrdd may have given it up long ago.
  writeFileSync(path.join(rrdd.folder, 'ringdisk'), 'old');
  await host.startManager();
  await readUntil(() => true);
  expect(rrdd.isReadInPlace('ringdisk')).toBe(true);
});
