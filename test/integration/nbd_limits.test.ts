// SPDX-License-Identifier: Apache-2.0
// Limits of exports: all clients of one together, told and changed while they wait.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MIB, sparseFile } from '../support/loopback_machine.ts';
import { client } from '../support/nbd_client.ts';
import { RestartMachine } from '../support/restart_machine.ts';

let machine: RestartMachine;
beforeEach(async () => {
  machine = await RestartMachine.start();
});
afterEach(async () => {
  await machine.close();
});

async function cli(...args: string[]): Promise<string> {
  const { status, stdout, stderr } = await machine.daemon.cli(...args);
  expect(stderr).toBe('');
  expect(status).toBe(0);
  return stdout.trim();
}

async function refused(...args: string[]): Promise<string> {
  const { status, stderr } = await machine.daemon.cli(...args);
  expect(status).not.toBe(0);
  return stderr;
}

function add(...options: string[]): Promise<string> {
  return cli('export', 'add', sparseFile(machine.file('a.img'), MIB), '--name', 'a', ...options);
}

async function listed() {
  const [one] = JSON.parse(await cli('export', 'list', '--json')).result.exports;
  return one;
}

/** So many reads, one after the other. */
function reads(uri: string, count: number): Promise<string> {
  const lines = [
    'import nbd',
    'h = nbd.NBD()',
    `h.connect_uri(${JSON.stringify(uri)})`,
    `for i in range(${count}): h.pread(4096, 4096 * i)`,
    'h.shutdown()',
  ];
  return client('/usr/bin/python3', '-c', lines.join('\n'));
}

describe('an export', () => {
  it('is limited, told so, and let go while its clients wait', async () => {
    const uri = await add('--limit', 'iops=1,burst=1');
    const busy = Promise.all([reads(uri, 50), reads(uri, 50)]);
    const waiting = async () => (await listed()).counters?.waitingForTokens;
    await expect.poll(waiting, { timeout: 10_000 }).toBe(2);
    expect(await cli('export', 'list')).toMatch(
      /^a: limited to 1 operations\/s, .*by an operator; 2 requests wait for their turn$/m,
    );
    expect(await cli('export', 'limit', 'a', '--off')).toBe('a: not limited');
    await busy;
    expect((await listed()).limits).toBeUndefined();
  }, 30_000);

  it('keeps its limits over restarts, and what is not given', async () => {
    await add('--limit', 'iops=1000,bps=1M');
    await cli('export', 'limit', 'a', '--iops', '0', '--read-bps', '2M');
    const limits = { bps: MIB, readBps: 2 * MIB, from: 'operator' };
    expect((await listed()).limits).toEqual(limits);
    await machine.killAndStartDaemon();
    await expect.poll(async () => (await listed()).state).toBe('exported');
    expect((await listed()).limits).toEqual(limits);
  });

  it('shares what a group may with disks', async () => {
    const guest = await machine.plug(MIB);
    await guest.frontend.connect();
    await cli('limit', '1/xvda', '--group', 'web', '--iops', '1000');
    await add('--limit', 'group=web,weight=3');
    expect((await listed()).limits).toEqual({
      iops: 1000,
      group: 'web',
      weight: 3,
      sharedWith: ['vbd3/1/51712'],
      from: 'operator',
    });
    expect(await cli('limit', '1/xvda')).toMatch(/in group web with export a, by an operator$/);
    expect(await cli('export', 'limit', 'a', '--weight', '5')).toMatch(/, weight 5, by an op/);
    await machine.killAndStartDaemon();
    await expect.poll(async () => (await listed()).limits?.iops).toBe(1000);
    expect((await listed()).limits.weight).toBe(5);
    await cli('export', 'remove', 'a');
    expect(await cli('limit', '1/xvda')).toMatch(/in group web, by an operator$/);
  }, 30_000);

  it('is refused what makes no sense, with a sentence', async () => {
    const source = sparseFile(machine.file('a.img'), MIB);
    for (const [words, sentence] of [
      ['iops=many', /iops is a number/],
      ['group=nobodys', /no group "nobodys" yet/],
      ['burst=5', /burst needs a limit of iops/],
    ] as const) {
      expect(await refused('export', 'add', source, '--limit', words)).toMatch(sentence);
    }
    expect(await cli('export', 'list')).toMatch(/Nothing is exported/);
    await add();
    expect(await refused('export', 'limit', 'a')).toMatch(/--off alone/);
    expect(await refused('export', 'limit', 'b', '--iops', '5')).toMatch(/no export "b"/);
  });
});
