// SPDX-License-Identifier: Apache-2.0
// Storage whose server has gone: a FUSE file system that nobody answers for, so that whoever looks
// at a path of it waits for ever.
import { spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { detachVbd } from '../../src/platform/loopback_toolstack.ts';
import { waitForNode } from '../../src/platform/wait_for_node.ts';
import { expectWriteAndVerify, MIB, sparseFile } from '../support/loopback_machine.ts';
import { type RestartGuest, RestartMachine } from '../support/restart_machine.ts';

const DEAD_DISKS = 12;
const OPTIONS = 'fd=3,rootmode=40000,user_id=0,group_id=0';

/** Undefined where the machine does not allow it. */
function mountDead(folder: string): { end(): void } | undefined {
  if (process.getuid?.() !== 0 || !existsSync('/dev/fuse')) return undefined;
  mkdirSync(folder);
  const server = openSync('/dev/fuse', 'r+');
  const stdio: ('ignore' | number)[] = ['ignore', 'ignore', 'ignore', server];
  const mount = ['-i', '-t', 'fuse', '-o', OPTIONS, 'dead', folder];
  const { status } = spawnSync('mount', mount, { stdio });
  const end = () => {
    // Whoever waits is answered with an error then.
    closeSync(server);
    spawnSync('umount', ['-l', folder]);
  };
  if (status === 0) return { end };
  closeSync(server);
  return undefined;
}

let machine: RestartMachine;
let dead: ReturnType<typeof mountDead>;
beforeEach(async () => {
  machine = await RestartMachine.start();
  dead = mountDead(machine.file('dead'));
});
afterEach(async () => {
  dead?.end();
  await machine.close();
});

function stateOf({ paths }: RestartGuest, state: string, ms: number): Promise<unknown> {
  const node = `${paths.backend}/state`;
  return waitForNode(machine.xenstore, node, (value) => value === state, `${state}`, ms);
}

async function plugDead(): Promise<RestartGuest[]> {
  const guests: RestartGuest[] = [];
  for (let n = 0; n < DEAD_DISKS; n++) {
    guests.push(await machine.plug(MIB, `aio:${machine.file('dead', `${n}.img`)}`));
  }
  return guests;
}

async function elapsed(step: Promise<unknown>): Promise<number> {
  const started = performance.now();
  await step;
  return performance.now() - started;
}

describe('disks on dead storage', () => {
  it('cost nobody else anything, and are told of', async ({ skip }) => {
    if (!dead) skip('this needs root and /dev/fuse');
    const hanging = await plugDead();
    await sleep(500);
    const healthy = await machine.plug(8 * MIB);
    expect(await elapsed(stateOf(healthy, '2', 5000))).toBeLessThan(2000);
    await healthy.frontend.connect();
    await expectWriteAndVerify(healthy.frontend);
    await sleep(1000);
    const { stdout } = await machine.daemon.cli('list');
    expect(stdout).toMatch(/vbd3\/1\/51712: hangs in open since 2.*: its storage does not answer/);
    // Asked before libxl gives up, and answered at once.
    const [first, second] = hanging as [RestartGuest, RestartGuest];
    expect(await elapsed(detachVbd(machine.xenstore, first.paths))).toBeLessThan(2000);
    const status = `${second.paths.backend}/hotplug-status`;
    await waitForNode(machine.xenstore, status, (value) => value === 'error', 'a refusal', 10_000);
    expect(await machine.show(second)).toMatchObject({
      state: 'Initialising',
      error: expect.stringMatching(/open of ".*dead\/1.img" has not answered for 8 s/),
    });
    expect(await elapsed(detachVbd(machine.xenstore, second.paths))).toBeLessThan(2000);
  });

  it('delay no end of the daemon and no start of the next', async ({ skip }) => {
    if (!dead) skip('this needs root and /dev/fuse');
    const healthy = await machine.plug(8 * MIB);
    await healthy.frontend.connect();
    await plugDead();
    await sleep(500);
    for (const signal of ['SIGKILL', 'SIGTERM', 'SIGKILL'] as const) {
      const load = expectWriteAndVerify(healthy.frontend);
      expect(await elapsed(machine.stopDaemon(signal))).toBeLessThan(2000);
      expect(await elapsed(machine.startDaemon())).toBeLessThan(4000);
      await load;
    }
  });

  it('are served when their storage has come back as something that works', async ({ skip }) => {
    if (!dead) skip('this needs root and /dev/fuse');
    const [guest] = (await plugDead()) as [RestartGuest];
    await sleep(300);
    dead?.end();
    dead = undefined;
    sparseFile(machine.file('dead', '0.img'), 8 * MIB);
    await stateOf(guest, '2', 10_000);
    await guest.frontend.connect();
    await expectWriteAndVerify(guest.frontend);
  });
});
