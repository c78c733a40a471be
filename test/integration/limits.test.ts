// SPDX-License-Identifier: Apache-2.0
// Limits of guests that ask for all they can get, live and over the death of the daemon. How exact
// they are is for bench/limits.mjs: whoever else uses this machine must not matter here.
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { LoopbackMachine, MIB, timed, workload } from '../support/loopback_machine.ts';
import { type RestartGuest, RestartMachine } from '../support/restart_machine.ts';

const NULL_DISK = 'null:1073741824';
const NODE = 'sm-data/ringdisk-limits';

describe('in one process', () => {
  let machine: LoopbackMachine;
  afterEach(() => machine.close());

  it('holds a guest with several queues, tells what waited, and lets it go at once', async () => {
    machine = await LoopbackMachine.start();
    const guest = await machine.plug({ params: `iops=500:burst=10:${NULL_DISK}` });
    await guest.frontend.connect({ queues: 4 });
    const limited = await guest.frontend.run(timed('randread', 2000, { blockBytes: 4096 }));
    expect(limited.errors).toBe(0);
    expect(limited.requests).toBeGreaterThan(800);
    expect(limited.requests).toBeLessThan(1100);
    const [vbd] = machine.daemon.vbds();
    const { tokens, read } = vbd?.latency() ?? {};
    expect(tokens?.count).toBeGreaterThan(700);
    expect(tokens?.sumUs).toBeGreaterThan(0.8 * (read?.sumUs ?? 0));
    const flood = guest.frontend.run(timed('randread', 1000, { blockBytes: 4096 }));
    await sleep(300);
    expect(vbd?.info().counters?.waitingForTokens).toBeGreaterThan(0);
    await vbd?.limit({ off: true });
    expect((await flood).requests).toBeGreaterThan(2000);
    expect(vbd?.info().counters?.waitingForTokens).toBe(0);
    await machine.unplug(guest);
  }, 20_000);

  it('by a node that the toolstack writes while the guest works', async () => {
    machine = await LoopbackMachine.start();
    const guest = await machine.plug({ params: NULL_DISK });
    await guest.frontend.connect({ queues: 2 });
    const { xenstore } = machine.platform;
    await xenstore.write(`${guest.paths.backend}/${NODE}`, 'write-bps=1M');
    await expect.poll(() => machine.infos()[0]?.limits?.writeBps).toBe(MIB);
    const { bytes } = await guest.frontend.run(timed('randwrite', 2000, { blockBytes: 4096 }));
    expect(bytes).toBeGreaterThan(1.5 * MIB);
    expect(bytes).toBeLessThan(2.7 * MIB);
  }, 20_000);

  it('by a node that makes no sense nothing changes, and the guest comes back', async () => {
    machine = await LoopbackMachine.start();
    const guest = await machine.plug({ params: NULL_DISK });
    const node = `${guest.paths.backend}/${NODE}`;
    const { xenstore } = machine.platform;
    await xenstore.write(node, 'iops=500');
    await guest.frontend.connect();
    for (const text of ['iops=abc', 'fast']) {
      await xenstore.write(node, text);
      const problem = `backend node ${NODE} is "${text}", not limits such as`;
      await expect.poll(() => machine.infos()[0]?.limitsProblem).toContain(problem);
      await guest.frontend.reconnect();
      expect(machine.infos()[0]).toMatchObject({ state: 'Connected', limits: { iops: 500 } });
    }
    await xenstore.write(node, 'off');
    await expect.poll(() => machine.infos()[0]?.limits).toBeUndefined();
    expect(machine.infos()[0]?.limitsProblem).toBeUndefined();
  }, 20_000);

  it('a disk whose requests wait is detached as fast as any', async () => {
    machine = await LoopbackMachine.start();
    const image = machine.image(64 * MIB);
    const guest = await machine.plug({ params: `write-iops=1:aio:${image}` });
    await guest.frontend.connect({ queues: 4 });
    const flood = guest.frontend.run(timed('randwrite', 60_000, { blockBytes: 4096 }));
    await expect.poll(() => machine.infos()[0]?.counters?.waitingForTokens).toBeGreaterThan(10);
    const vbd = machine.daemon.vbds()[0];
    const started = performance.now();
    const closed = vbd?.disconnect({ force: true });
    await guest.frontend.closedByBackend();
    await closed;
    expect(performance.now() - started).toBeLessThan(9000);
    await flood.catch(() => {});
    expect(guest.frontend.grantsInUse()).toBe(0);
  }, 30_000);
});

describe('by the command', () => {
  let machine: RestartMachine;
  afterEach(() => machine.close());

  async function limit(guest: RestartGuest, ...args: string[]) {
    return machine.daemon.cli('limit', `${guest.paths.domid}/xvda`, ...args);
  }

  it('says what holds, and refuses with a sentence', async () => {
    machine = await RestartMachine.start();
    const a = await machine.plug(MIB, NULL_DISK);
    const b = await machine.plug(MIB, NULL_DISK);
    await a.frontend.connect();
    await b.frontend.connect();
    expect((await limit(a)).stdout).toBe('vbd3/1/51712: not limited\n');
    expect((await limit(a, '--iops', '2000', '--burst', '10000')).stdout).toBe(
      'vbd3/1/51712: 2,000 operations/s, 10,000 operations at once, by an operator\n',
    );
    expect((await limit(a, '--read-bps', '100M', '--burst', '0')).stdout).toBe(
      'vbd3/1/51712: 2,000 operations/s, 100 MiB/s read, by an operator\n',
    );
    const joined = await limit(b, '--group', 'Web', '--write-iops', '5', '--json');
    expect(JSON.parse(joined.stdout)).toEqual({
      command: 'limit',
      version: 1,
      result: {
        vbd: 'vbd3/2/51712',
        limits: { writeIops: 5, group: 'web', sharedWith: [], from: 'operator' },
      },
    });
    expect((await limit(a, '--group', 'web')).stdout).toBe(
      'vbd3/1/51712: 5 writes/s in group web with vbd3/2/51712, by an operator\n',
    );
    expect((await machine.daemon.cli('list')).stdout).toContain(
      '\nvbd3/2/51712: limited to 5 writes/s in group web with vbd3/1/51712, by an operator\n',
    );
    expect((await machine.daemon.cli('show', '1/xvda')).stdout).toMatch(/^limits: +5 writes\/s/m);
    expect((await limit(a, '--off')).stdout).toBe('vbd3/1/51712: not limited\n');
    for (const [args, status, message] of [
      [['--iops', 'fast'], 1, 'iops is a number from 1 to 100000000, not "fast"'],
      [['--bps', '1'], 1, 'bps is a size from 4K to 1T, such as 100M, not "1"'],
      [['--burst', '5'], 1, 'burst needs a limit of iops'],
      [['--group', 'other'], 1, 'There is no group "other" yet'],
      [['--group', '../x'], 1, 'group is a name of at most 64 letters'],
      [['--iops', '5,bps=1M'], 2, 'has a comma in it'],
      [['--off', '--iops', '5'], 2, '--off and --reset stand alone'],
      [['--nothing'], 2, 'unknown option'],
    ] as const) {
      const refused = await limit(a, ...args);
      expect({ args, status: refused.status }).toEqual({ args, status });
      expect(refused.stderr).toContain(message);
    }
    expect((await limit(a)).stdout).toBe('vbd3/1/51712: not limited\n');
  }, 60_000);

  it('again and again under load, the daemon killed: nothing is lost, and it stays', async () => {
    machine = await RestartMachine.start();
    const guest = await machine.plug(16 * MIB);
    await guest.frontend.connect({ queues: 3 });
    const all = { blockBytes: 4096, depth: 32, length: 16 * MIB, seed: 5 };
    const written = guest.frontend.run(workload('write', all));
    for (const args of [
      ['--iops', '1'],
      ['--write-bps', '4K'],
      ['--group', 'g', '--iops', '300'],
    ]) {
      expect((await limit(guest, ...args)).status).toBe(0);
      await sleep(100);
      await machine.killAndStartDaemon();
    }
    await expect
      .poll(async () => (await machine.show(guest))['limits'], { timeout: 10_000 })
      .toEqual({ iops: 300, group: 'g', sharedWith: [], from: 'operator' });
    expect((await limit(guest, '--off')).status).toBe(0);
    expect(await written).toMatchObject({ errors: 0, bytes: 16 * MIB });
    const verified = await guest.frontend.run(workload('verify', all));
    expect(verified).toMatchObject({ errors: 0, mismatches: 0, bytes: 16 * MIB });
  }, 60_000);
});
