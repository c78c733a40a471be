// SPDX-License-Identifier: Apache-2.0
// Images as guests' disks: the daemon, what serves the image, and either of them killed.
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { startOfProcess } from '../../src/formats/helper_record.ts';
import { detachVbd } from '../../src/platform/loopback_toolstack.ts';
import { DISK_BYTES, expectFilled, fill } from '../support/disk_load.ts';
import { serveHttps } from '../support/https_image.ts';
import { makeImage, run } from '../support/images.ts';
import { MIB, timed, workload } from '../support/loopback_machine.ts';
import { type RestartGuest, RestartMachine } from '../support/restart_machine.ts';

let machine: RestartMachine;
beforeEach(async () => {
  machine = await RestartMachine.start();
});
afterEach(async () => {
  await machine.close();
});

interface Target {
  kind: string;
  helper: { program: string; pid?: number; restarts: number; chain: { path: string }[] };
  capabilities: { warnings: string[] };
}

async function targetOf(guest: RestartGuest): Promise<Target> {
  const { target } = (await machine.show(guest)) as { target: Target };
  return target;
}

async function pidOf(guest: RestartGuest): Promise<number> {
  const { pid } = (await targetOf(guest)).helper;
  if (pid === undefined) throw new Error('nothing serves the image');
  return pid;
}

async function errorOf(guest: RestartGuest): Promise<string> {
  const { error } = (await machine.show(guest)) as { error?: string };
  return error ?? '';
}

async function refused(target: string): Promise<void> {
  const guest = await machine.plug(0, target);
  await expect.poll(() => errorOf(guest), { timeout: 10_000 }).toMatch(/in use by vbd3\//);
  await detachVbd(machine.xenstore, guest.paths);
}

/** undefined: none can be had. */
function loopDevice(file: string): string | undefined {
  try {
    return run('losetup', '--find', '--show', file).trim();
  } catch {
    return undefined;
  }
}

const image = () => makeImage('qcow2', machine.file('disk.qcow2'), '64M');
const left = () => readdirSync(machine.file('images')).filter((name) => !name.endsWith('.lock'));

describe('a guest on an image', () => {
  it('that is based on two others is read, written and trimmed, and its helper ends', async () => {
    const base = makeImage('raw', machine.file('a, b.raw'), '64M');
    const middle = makeImage('qcow2', machine.file('b.qcow2'), undefined, ['raw', base]);
    const top = makeImage('qcow2', machine.file('c.qcow2'), undefined, ['qcow2', middle]);
    const before = run('md5sum', base);
    const guest = await machine.plug(0, `aio:qcow2:l2-cache-size=1M:${top}`);
    await guest.frontend.connect();
    const { kind, helper } = await targetOf(guest);
    expect(kind).toBe('qcow2');
    expect(helper.chain.map((node) => node.path)).toEqual([top, middle, base]);
    await guest.frontend.run(fill(1));
    await guest.frontend.run(workload('flush'));
    await expectFilled(guest, 1);
    const full = statSync(top).blocks;
    const whole = { blockBytes: MIB, length: DISK_BYTES };
    expect(await guest.frontend.run(workload('discard', whole))).toMatchObject({ errors: 0 });
    await guest.frontend.run(workload('flush'));
    expect(statSync(top).blocks).toBeLessThan(full / 2);
    await guest.frontend.run(fill(2));
    await machine.unplug(guest);
    await expect.poll(left, { timeout: 10_000 }).toEqual([]);
    await expect.poll(() => startOfProcess(helper.pid ?? 0)).toBeUndefined();
    expect(run('qemu-img', 'check', '-f', 'qcow2', top)).toMatch(/No errors/);
    expect(run('md5sum', base)).toBe(before);
  }, 60_000);

  it.each([
    ['vhd', 'vpc'],
    ['vhdx', 'vhdx'],
    ['vmdk', 'vmdk'],
  ])(
    '%s',
    async (format, driver) => {
      const guest = await machine.plug(
        0,
        `${format}:${makeImage(driver, machine.file('a'), '64M')}`,
      );
      await guest.frontend.connect();
      await targetOf(guest);
      await guest.frontend.run(fill(1));
      await expectFilled(guest, 1);
      await machine.unplug(guest);
    },
    60_000,
  );

  it('that is read by https', async () => {
    const server = await serveHttps(machine.runtimeDir, randomBytes(8 * MIB));
    try {
      const target = `cainfo=${server.ca}:${server.url}`;
      const writer = await machine.plug(0, target);
      await expect.poll(() => errorOf(writer)).toMatch(/attach it read only/);
      const guest = await machine.plug(0, target, 'r');
      await guest.frontend.connect();
      const { helper } = await targetOf(guest);
      expect(helper.program).toBe('nbdkit');
      expect(await guest.frontend.run(workload('read'))).toMatchObject({ errors: 0 });
      await machine.unplug(guest);
    } finally {
      await server.close();
    }
  }, 30_000);

  it('shares what serves it with an export for a backup', async () => {
    const guest = await machine.plug(0, `qcow2:${image()}`);
    await guest.frontend.connect();
    const pid = await pidOf(guest);
    await guest.frontend.run(fill(1));
    await guest.frontend.run(workload('flush'));
    const added = ['export', 'add', '1/xvda', '--read-only', '--name', 'backup'];
    const { stdout, stderr } = await machine.daemon.cli(...added);
    expect(stderr).toBe('');
    run('nbdcopy', stdout.trim(), machine.file('copy.raw'));
    expect(await pidOf(guest)).toBe(pid);
    run(
      'qemu-img',
      'compare',
      '-U',
      '-f',
      'qcow2',
      machine.file('disk.qcow2'),
      machine.file('copy.raw'),
    );
    await machine.daemon.cli('export', 'remove', 'backup');
    await machine.unplug(guest);
  }, 30_000);
});

describe('killed under load', () => {
  // A busy machine may start it again later than requests wait with on-error=report.
  it.each(['on-error=stop:qcow2:', 'on-error=stop:vhdx:'])(
    'what serves %s: nothing is lost',
    async (kind) => {
      const format = kind.includes('vhdx') ? 'vhdx' : 'qcow2';
      const guest = await machine.plug(0, kind + makeImage(format, machine.file('a'), '64M'));
      await guest.frontend.connect();
      for (let seed = 1; seed <= 3; seed++) {
        const written = guest.frontend.run(fill(seed));
        await sleep(30 + 50 * seed);
        process.kill(await pidOf(guest), 'SIGKILL');
        expect(await written).toMatchObject({ errors: 0 });
        await expectFilled(guest, seed);
      }
      const { helper, capabilities } = await targetOf(guest);
      expect(helper.restarts).toBeGreaterThanOrEqual(1);
      expect(capabilities.warnings).toEqual([]);
    },
    120_000,
  );

  it('what serves qcow2 with cache.writeback=on: nothing is lost that was flushed', async () => {
    const guest = await machine.plug(0, `on-error=stop:qcow2:cache.writeback=on:${image()}`);
    await guest.frontend.connect();
    const half = { length: DISK_BYTES / 2, blockBytes: 4096, depth: 32 };
    await guest.frontend.run(workload('write', { ...half, seed: 1 }));
    await guest.frontend.run(workload('flush'));
    const rest = { ...half, offset: DISK_BYTES / 2, seed: 2 };
    const written = guest.frontend.run(workload('write', rest));
    await sleep(60);
    process.kill(await pidOf(guest), 'SIGKILL');
    expect(await written).toMatchObject({ errors: 0 });
    const kept = await guest.frontend.run(workload('verify', { ...half, seed: 1 }));
    expect(kept).toMatchObject({ errors: 0, mismatches: 0 });
    const { warnings } = (await targetOf(guest)).capabilities;
    expect(warnings).toEqual([expect.stringMatching(/started anew while writes/)]);
    await machine.unplug(guest);
    // Clusters that nobody uses are what it may leave.
    const repaired = run(
      'qemu-img',
      'check',
      '-r',
      'leaks',
      '-f',
      'qcow2',
      machine.file('disk.qcow2'),
    );
    expect(repaired).toMatch(/No errors were found on the image/);
  }, 60_000);

  it('the daemon: what serves the image goes on, and is found again', async () => {
    const guest = await machine.plug(0, `qcow2:${image()}`);
    await guest.frontend.connect();
    const pid = await pidOf(guest);
    for (let seed = 1; seed <= 3; seed++) {
      const written = guest.frontend.run(fill(seed));
      await sleep(100 * seed);
      await machine.killAndStartDaemon();
      expect(await written).toMatchObject({ errors: 0 });
      await expectFilled(guest, seed);
      expect(await pidOf(guest)).toBe(pid);
    }
  }, 120_000);

  it('both: the next daemon starts it again', async () => {
    const guest = await machine.plug(0, `on-error=stop:qcow2:${image()}`);
    await guest.frontend.connect();
    const pid = await pidOf(guest);
    const written = guest.frontend.run(
      timed('write', 1500, { blockBytes: 4096, length: DISK_BYTES }),
    );
    await sleep(200);
    await machine.stopDaemon('SIGKILL');
    process.kill(pid, 'SIGKILL');
    await machine.startDaemon();
    expect(await written).toMatchObject({ errors: 0 });
    expect(await pidOf(guest)).not.toBe(pid);
  }, 60_000);
});

describe('a daemon that is told to end', () => {
  it('leaves what serves the image to the next one', async () => {
    const guest = await machine.plug(0, `qcow2:${image()}`);
    await guest.frontend.connect();
    const pid = await pidOf(guest);
    await guest.frontend.run(fill(1));
    expect((await machine.stopDaemon('SIGTERM')).status).toBe(0);
    expect(startOfProcess(pid)).toBeDefined();
    await machine.startDaemon();
    await expectFilled(guest, 1);
    expect(await pidOf(guest)).toBe(pid);
  }, 30_000);

  it('ends it with its disks where the configuration says so', async () => {
    await machine.stopDaemon('SIGTERM');
    writeFileSync(machine.file('config.json'), '{"closeOnStop":true}');
    await machine.startDaemon('--config', machine.file('config.json'));
    const guest = await machine.plug(0, `qcow2:${image()}`);
    await guest.frontend.connect();
    const pid = await pidOf(guest);
    const stopped = machine.stopDaemon('SIGTERM');
    await guest.frontend.closedByBackend();
    expect((await stopped).status).toBe(0);
    expect(startOfProcess(pid)).toBeUndefined();
    expect(left()).toEqual([]);
  }, 30_000);
});

describe('refused', () => {
  it('for want of the program, with its package', async () => {
    await machine.stopDaemon('SIGTERM');
    const { PATH = '' } = process.env;
    process.env['PATH'] = '';
    try {
      await machine.startDaemon();
    } finally {
      process.env['PATH'] = PATH;
    }
    const guest = await machine.plug(0, `qcow2:${image()}`);
    const wanted = /qemu-img is not installed: it is in Debian's package qemu-utils/;
    await expect.poll(() => errorOf(guest), { timeout: 10_000 }).toMatch(wanted);
  }, 30_000);

  it('while another VM uses it, as an image or as a file', async () => {
    const file = image();
    await (await machine.plug(0, `qcow2:${file}`)).frontend.connect();
    await refused(`qcow2:${file}`);
    await refused(`file:${file}`);
  }, 30_000);

  it('while another VM uses its bytes: nothing is written to them', async () => {
    const file = image();
    // A bit that QEMU does not know, and clears as it opens the image to write to it.
    const unknown = 88;
    writeFileSync(file, readFileSync(file).fill(0x80, unknown, unknown + 1));
    await (await machine.plug(0, `file:${file}`)).frontend.connect();
    await refused(`qcow2:${file}`);
    expect(readFileSync(file)[unknown]).toBe(0x80);
    expect(left()).toEqual([]);
  }, 30_000);

  it('while another VM writes to what it is based on, and the reverse', async () => {
    const base = makeImage('raw', machine.file('base'), '64M');
    const top = makeImage('qcow2', machine.file('top'), undefined, ['raw', base]);
    const writer = await machine.plug(0, `file:${base}`);
    await writer.frontend.connect();
    await refused(`qcow2:${top}`);
    await machine.unplug(writer);
    const user = await machine.plug(0, `qcow2:${top}`);
    await user.frontend.connect();
    await refused(`file:${base}`);
    await machine.killAndStartDaemon();
    await refused(`file:${base}`);
    const reader = await machine.plug(0, `file:${base}`, 'r');
    await reader.frontend.connect();
  }, 30_000);

  it('on a device that another VM uses', async ({ skip }) => {
    const file = image();
    const device = loopDevice(file) ?? skip('no loop device');
    try {
      const raw = await machine.plug(0, `block:${device}`);
      await raw.frontend.connect();
      await refused(`qcow2:${device}`);
      await refused(`qcow2:${file}`);
      await machine.unplug(raw);
      const user = await machine.plug(0, `qcow2:${device}`);
      await user.frontend.connect();
      await refused(`block:${device}`);
      await machine.unplug(user);
    } finally {
      run('losetup', '-d', device);
    }
  }, 60_000);

  it('where it is none, until it is one', async () => {
    const file = machine.file('disk.qcow2');
    writeFileSync(file, 'x'.repeat(65536));
    const guest = await machine.plug(0, `qcow2:${file}`);
    await expect.poll(() => errorOf(guest), { timeout: 10_000 }).toMatch(/not in qcow2 format/);
    image();
    await guest.frontend.connect();
    expect(await guest.frontend.run(workload('write'))).toMatchObject({ errors: 0 });
  }, 30_000);
});
