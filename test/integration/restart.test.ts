// SPDX-License-Identifier: Apache-2.0
// Guests outlive their daemon: however it ends, the next one goes on with their disks, and nothing
// is lost, answered wrongly or answered twice.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { detachVbd } from '../../src/platform/loopback_toolstack.ts';
import { DISK_BYTES, during, expectFilled, fill } from '../support/disk_load.ts';
import { timed, workload } from '../support/loopback_machine.ts';
import { RestartMachine } from '../support/restart_machine.ts';

const JOURNAL_HEADER_BYTES = 4096;

let machine: RestartMachine;
beforeEach(async () => {
  machine = await RestartMachine.start();
});
afterEach(async () => {
  await machine.close();
});

/** Kills and starts the daemon for as long as `load` is under way; says how often. */
function killDuring(load: Promise<unknown>): Promise<number> {
  return during(load, () => machine.killAndStartDaemon());
}

describe('killed under load', () => {
  it('again and again: nothing is lost, and no request fails', async () => {
    const guest = await machine.plug(DISK_BYTES);
    await guest.frontend.connect({ queues: 3, ringPageOrder: 2 });
    let kills = 0;
    for (let seed = 1; seed <= 8; seed++) {
      const written = guest.frontend.run(fill(seed));
      kills += await killDuring(written);
      expect(await written).toMatchObject({ errors: 0, bytes: DISK_BYTES });
      await expectFilled(guest, seed);
    }
    expect(kills).toBeGreaterThanOrEqual(8);
    const { state, counters } = await machine.show(guest);
    expect(state).toBe('Connected');
    expect(counters).toMatchObject({ ioErrors: 0, rejected: 0, brokenQueues: 0 });
  }, 120_000);

  it('and while it starts and takes over: nothing is lost', async () => {
    const guests = [await machine.plug(DISK_BYTES), await machine.plug(DISK_BYTES)];
    await Promise.all(guests.map(({ frontend }) => frontend.connect({ queues: 3 })));
    for (let seed = 1; seed <= 5; seed++) {
      const written = guests.map(({ frontend }) => frontend.run(fill(seed)));
      await sleep(20);
      await machine.stopDaemon('SIGKILL');
      for (let i = 0; i < 4; i++) await machine.startAndKill(60 + 140 * Math.random());
      await machine.startDaemon();
      for (const result of await Promise.all(written)) expect(result).toMatchObject({ errors: 0 });
      for (const guest of guests) await expectFilled(guest, seed);
    }
  }, 120_000);

  it.each(['randwrite', 'discard', 'flush', 'barrier'] as const)(
    '%s',
    async (operation) => {
      const guest = await machine.plug(DISK_BYTES);
      await guest.frontend.connect({ persistentGrants: operation !== 'randwrite' });
      await guest.frontend.run(workload('write', { length: DISK_BYTES }));
      const load = guest.frontend.run(timed(operation, 1200, { blockBytes: 4096 }));
      await killDuring(load);
      expect(await load).toMatchObject({ errors: 0 });
      // The same bytes were written again, or none.
      if (operation !== 'discard') await expectFilled(guest, 7);
    },
    60_000,
  );
});

describe('asked to end', () => {
  it('leaves the disks to the next one, under load', async () => {
    const guest = await machine.plug(DISK_BYTES);
    await guest.frontend.connect();
    const written = guest.frontend.run(fill(1));
    await sleep(100);
    const { status, stderr } = await machine.stopDaemon('SIGTERM');
    expect({ status, stderr }).toMatchObject({
      status: 0,
      stderr: expect.stringMatching(/"left"/),
    });
    expect(await machine.xenstore.read(`${guest.paths.backend}/state`)).toBe('4');
    expect(readdirSync(machine.file('vbds'))).toContain('vbd3-1-51712.json');
    await machine.startDaemon();
    expect(await written).toMatchObject({ errors: 0 });
    await expectFilled(guest, 1);
  });

  it('closes them where the configuration says so', async () => {
    await machine.stopDaemon('SIGTERM');
    writeFileSync(machine.file('config.json'), '{"closeOnStop":true}');
    await machine.startDaemon('--config', machine.file('config.json'));
    const guest = await machine.plug(DISK_BYTES);
    await guest.frontend.connect();
    await Promise.all([machine.stopDaemon('SIGTERM'), guest.frontend.closedByBackend()]);
    expect(await machine.xenstore.read(`${guest.paths.backend}/state`)).toBe('6');
    expect(readdirSync(machine.file('vbds'))).toEqual([]);
  });

  it('hands over to the process of `ringdisk upgrade`, under load', async () => {
    const guest = await machine.plug(DISK_BYTES);
    await guest.frontend.connect();
    const written = guest.frontend.run(fill(1));
    await sleep(100);
    expect(await machine.upgradeDaemon()).toMatchObject({ status: 0 });
    expect(await written).toMatchObject({ errors: 0 });
    await expectFilled(guest, 1);
    const { state } = await machine.show(guest);
    expect(state).toBe('Connected');
  });
});

describe('a second daemon', () => {
  it('is not let in, and the first one serves on', async () => {
    const guest = await machine.plug(DISK_BYTES);
    await guest.frontend.connect();
    const second = await machine.daemon.cli('serve', '--platform', 'loopback');
    expect(second).toMatchObject({ status: 1, stderr: expect.stringMatching(/another ringdisk/) });
    expect(await guest.frontend.run(fill(1))).toMatchObject({ errors: 0 });
  });
});

describe('while no daemon runs', () => {
  it('a detached disk is closed by the next one', async () => {
    const guest = await machine.plug(DISK_BYTES);
    await guest.frontend.connect();
    await machine.stopDaemon('SIGKILL');
    const detached = detachVbd(machine.xenstore, guest.paths);
    await sleep(50);
    await machine.startDaemon();
    await Promise.all([detached, guest.frontend.closedByBackend()]);
    expect(guest.frontend.grantsInUse()).toBe(0);
    expect(readdirSync(machine.file('vbds'))).toEqual([]);
  });

  it('a guest that is destroyed leaves nothing to the next one', async () => {
    const guest = await machine.plug(DISK_BYTES);
    await guest.frontend.connect();
    await machine.stopDaemon('SIGKILL');
    await machine.xenstore.remove(guest.paths.backend);
    await machine.startDaemon();
    expect((await machine.daemon.cli('list')).stdout).toContain('No disks');
    expect(readdirSync(machine.file('vbds'))).toEqual([]);
  });
});

describe('the I/O of a daemon that died', () => {
  it('is waited for by writes, not by reads, and that is told', async () => {
    const guest = await machine.plug(DISK_BYTES);
    await guest.frontend.connect();
    await guest.frontend.run(fill(1));
    await machine.stopDaemon('SIGKILL');
    // What a request that the kernel still carries out does: it keeps the file's lock.
    const holder = spawn('flock', [machine.file('disk1.img'), '-c', 'echo locked; read end']);
    await once(holder.stdout, 'data');
    await machine.startDaemon();
    await expectFilled(guest, 1);
    let isWritten = false;
    const written = guest.frontend.run(fill(2)).finally(() => {
      isWritten = true;
    });
    await sleep(300);
    expect(isWritten).toBe(false);
    expect((await machine.show(guest))['fencedSince']).toMatch(/Z$/);
    expect((await machine.daemon.cli('list')).stdout).toContain('Connected (fenced)');
    expect((await machine.daemon.cli('stats')).stdout).toContain('writes wait for the I/O');
    holder.stdin.end();
    expect(await written).toMatchObject({ errors: 0 });
    await expectFilled(guest, 2);
    expect((await machine.show(guest))['fencedSince']).toBeUndefined();
    const { stderr } = await machine.stopDaemon('SIGTERM');
    expect(stderr).toMatch(/writes wait until[\s\S]*writes go on/);
  });
});

describe('a journal that was spoiled', () => {
  const flip = (offset: number) => (file: string) => {
    const bytes = readFileSync(file);
    bytes.writeUInt8(bytes.readUInt8(offset) ^ 0xff, offset);
    writeFileSync(file, bytes);
  };
  it.each<[string, (file: string) => void, RegExp]>([
    ['its magic', flip(0), /never finished/],
    ['its version', flip(8), /has version \d+, this daemon reads 1/],
    ['its identity', flip(24), /of another ring/],
    ['the state of a slot', flip(JOURNAL_HEADER_BYTES), /in no known state/],
    ['its length', (file) => truncateSync(file, 5000), /another size/],
  ])('%s: its disk is left alone, and another is served on', async (_what, spoil, reason) => {
    const guest = await machine.plug(DISK_BYTES);
    const other = await machine.plug(DISK_BYTES);
    await guest.frontend.connect({ queues: 1 });
    await other.frontend.connect();
    const written = other.frontend.run(fill(1));
    await machine.stopDaemon('SIGKILL');
    spoil(machine.file('vbds', 'vbd3-1-51712.queue-0'));
    await machine.startDaemon();
    expect(await written).toMatchObject({ errors: 0 });
    await expectFilled(other, 1);
    const { state, error } = await machine.show(guest);
    expect(state).toBe('Left');
    expect(error).toMatch(reason);
    expect(await machine.xenstore.read(`${guest.paths.backend}/state`)).toBe('4');
    // Its driver may start over.
    await guest.frontend.reconnect();
    expect(await guest.frontend.run(fill(2))).toMatchObject({ errors: 0 });
    await expectFilled(guest, 2);
  });
});
