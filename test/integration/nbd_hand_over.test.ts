// SPDX-License-Identifier: Apache-2.0
// A target that clients write, and that a guest's disk has after them: where a guest moves to.
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { MIB, sparseFile, workload } from '../support/loopback_machine.ts';
import { client } from '../support/nbd_client.ts';
import { type RestartGuest, RestartMachine } from '../support/restart_machine.ts';

const DISK_BYTES = 4 * MIB;

let machine: RestartMachine;
let disk: string;
beforeEach(async () => {
  machine = await RestartMachine.start();
  disk = sparseFile(machine.file('moved.img'), DISK_BYTES);
});
afterEach(async () => {
  await machine.close();
});

/** The export's URI. */
async function exported(): Promise<string> {
  const { stdout, stderr } = await machine.daemon.cli('export', 'add', disk, '--hand-over');
  expect(stderr).toBe('');
  return stdout.trim();
}

async function exports(): Promise<string[]> {
  const { stdout } = await machine.daemon.cli('export', 'list', '--json');
  return JSON.parse(stdout).result.exports.map(({ name }: { name: string }) => name);
}

function nbdsh(uri: string, ...lines: string[]): string[] {
  return [
    '-c',
    ['import nbd, os', 'h = nbd.NBD()', `h.connect_uri("${uri}")`, ...lines].join('\n'),
  ];
}

async function offered(): Promise<RestartGuest> {
  const guest = await machine.plug(0, `aio:${disk}`);
  await expect.poll(async () => (await machine.show(guest))['state']).toBe('InitWait');
  return guest;
}

it('the guest is offered its disk, and connects when the writer has gone', async () => {
  const uri = await exported();
  const guest = await offered();
  const connected = guest.frontend.connect();
  // Who looks, and who dies, hands nothing over.
  await client('nbdinfo', uri);
  const dies = execFile('/usr/bin/python3', nbdsh(uri, 'h.pwrite(b"1" * 512, 0)', 'os.abort()'));
  await once(dies, 'exit');
  await sleep(1000);
  expect(await exports()).toEqual(['moved.img']);
  expect((await machine.show(guest))['state']).toBe('InitWait');
  await client('/usr/bin/python3', ...nbdsh(uri, 'h.pwrite(b"x" * 4096, 4096)', 'h.shutdown()'));
  await connected;
  expect(await exports()).toEqual([]);
  const read = workload('read', { length: DISK_BYTES, depth: 1 });
  expect(await guest.frontend.run(read)).toMatchObject({ errors: 0, bytes: DISK_BYTES });
  await machine.unplug(guest);
});

it('a restarted daemon still hands over', async () => {
  const uri = await exported();
  await machine.killAndStartDaemon();
  await expect.poll(exports).toEqual(['moved.img']);
  const guest = await offered();
  const connected = guest.frontend.connect();
  await client('/usr/bin/python3', ...nbdsh(uri, 'h.flush()', 'h.shutdown()'));
  await connected;
  expect(await exports()).toEqual([]);
  await machine.unplug(guest);
});

it('only what clients may write to, and no disk of a guest, is handed over', async () => {
  const guest = await machine.plug(DISK_BYTES);
  await guest.frontend.connect();
  for (const args of [[disk, '--read-only'], ['1/xvda']]) {
    const { status, stderr } = await machine.daemon.cli('export', 'add', ...args, '--hand-over');
    expect(status).not.toBe(0);
    expect(stderr).toContain('Only a target that clients may write to can be handed over');
  }
});
