// SPDX-License-Identifier: Apache-2.0
// A VBD's life in the whole daemon: reconnecting, closing under load, bad frontends, growing.
import { truncateSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { waitForNode } from '../../src/platform/wait_for_node.ts';
import {
  expectWriteAndVerify,
  LoopbackMachine,
  MIB,
  timed,
  workload,
} from '../support/loopback_machine.ts';

let machine: LoopbackMachine;

beforeEach(async () => {
  machine = await LoopbackMachine.start();
});

afterEach(async () => {
  await machine.close();
});

const FOREVER_MS = 60_000;

describe('a frontend', () => {
  it('reconnects with other wishes, and finds its data', async () => {
    const guest = await machine.plug({ params: `aio:${machine.image(64 * MIB)}` });
    await guest.frontend.connect({ queues: 4, ringPageOrder: 4 });
    await expectWriteAndVerify(guest.frontend);
    for (const queues of [1, 3]) {
      await guest.frontend.reconnect({ queues, ringPageOrder: 0 });
      const verified = await guest.frontend.run(workload('verify'));
      expect(verified).toMatchObject({ errors: 0, mismatches: 0, bytes: 8 * MIB });
    }
    await machine.unplug(guest);
    machine.expectNothingHeld();
  });

  it('may close by itself: its device stays, ready for the next driver', async () => {
    const guest = await machine.plug({ params: `aio:${machine.image(64 * MIB)}` });
    await guest.frontend.connect();
    await guest.frontend.run(workload('write'));
    await guest.frontend.disconnect();
    expect(guest.frontend.grantsInUse()).toBe(0);
    machine.expectNothingHeld();
  });

  it.each([
    ['multi-queue-num-queues', '0'],
    ['multi-queue-num-queues', '65'],
    ['multi-queue-num-queues', '-1'],
    ['ring-page-order', '5'],
    ['ring-page-order', '99999999999'],
    ['protocol', 'vax-abi'],
    ['ring-ref', 'x'],
    ['event-channel', '4294967296'],
  ])('that writes %s = "%s" is closed, with the reason', async (node, value) => {
    const guest = await machine.plug({ params: `aio:${machine.image(MIB)}` });
    const { xenstore } = machine.platform;
    const { frontend, backend } = guest.paths;
    await waitForNode(xenstore, `${backend}/state`, (state) => state === '2', 'InitWait');
    const good = { 'ring-ref': '8', 'event-channel': '1', protocol: 'x86_64-abi' };
    for (const [name, text] of Object.entries({ ...good, [node]: value, state: '3' })) {
      await xenstore.write(`${frontend}/${name}`, text);
    }
    const closing = (state: string | undefined) => state === '5' || state === '6';
    await waitForNode(xenstore, `${backend}/state`, closing, 'the backend closes');
    const [vbd] = machine.infos();
    expect(vbd?.error).toContain(node);
    expect(vbd?.error).toContain(value);
    machine.expectNothingHeld();
  });

  it('whose grants and ports do not exist is closed, and holds nothing', async () => {
    const guest = await machine.plug({ params: `aio:${machine.image(MIB)}` });
    const { xenstore } = machine.platform;
    const { frontend, backend } = guest.paths;
    await waitForNode(xenstore, `${backend}/state`, (state) => state === '2', 'InitWait');
    await xenstore.write(`${frontend}/ring-ref`, '4000');
    await xenstore.write(`${frontend}/event-channel`, '4000');
    await xenstore.write(`${frontend}/state`, '3');
    const closing = (state: string | undefined) => state === '5' || state === '6';
    await waitForNode(xenstore, `${backend}/state`, closing, 'the backend closes');
    machine.expectNothingHeld();
  });
});

describe('closing', () => {
  it('under load lets go of everything', async () => {
    const guest = await machine.plug({ params: `aio:${machine.image(64 * MIB)}` });
    await guest.frontend.connect();
    const load = guest.frontend.run(
      timed('randwrite', FOREVER_MS, { blockBytes: 4096, depth: 32 }),
    );
    await sleep(200);
    await Promise.all([machine.unplug(guest), load]);
    machine.expectNothingHeld();
  });

  it('of the daemon under load closes the disk and lets go of everything', async () => {
    const guest = await machine.plug({ params: `aio:${machine.image(64 * MIB)}` });
    await guest.frontend.connect();
    const load = guest.frontend.run(timed('randread', FOREVER_MS, { blockBytes: 4096, depth: 32 }));
    await sleep(200);
    await Promise.all([machine.daemon.stop(), guest.frontend.closedByBackend(), load]);
    machine.expectNothingHeld();
    expect(guest.frontend.grantsInUse()).toBe(0);
  });
});

describe('several disks', () => {
  it('are served side by side, and one that goes leaves the other alone', async () => {
    const first = await machine.plug({ params: `aio:${machine.image(64 * MIB, 'a.img')}` });
    const second = await machine.plug({ params: `file:${machine.image(32 * MIB, 'b.img')}` });
    await Promise.all([first.frontend.connect(), second.frontend.connect({ queues: 2 })]);
    await Promise.all([
      expectWriteAndVerify(first.frontend, { seed: 1 }),
      expectWriteAndVerify(second.frontend, { seed: 2 }),
    ]);
    const load = first.frontend.run(timed('randread', 500));
    await machine.unplug(second);
    expect(await load).toMatchObject({ errors: 0 });
    expect(machine.infos().map((vbd) => vbd.domid)).toEqual([1]);
  });

  it('with a target that is not there says so, and disturbs nobody', async () => {
    const good = await machine.plug({ params: `aio:${machine.image(64 * MIB)}` });
    await machine.plug({ params: 'aio:/nowhere/disk.img' });
    await good.frontend.connect();
    await expectWriteAndVerify(good.frontend);
    const bad = machine.infos().find((vbd) => vbd.domid === 2);
    expect(bad?.error).toContain('/nowhere/disk.img');
  });
});

describe('resize', () => {
  it('tells a connected guest of its grown disk, and refuses to shrink it', async () => {
    const image = machine.image(16 * MIB);
    const guest = await machine.plug({ params: `aio:${image}` });
    expect((await guest.frontend.connect()).capacity).toBe(16 * MIB);
    const upper = { offset: 16 * MIB, length: 8 * MIB };
    truncateSync(image, 32 * MIB);
    await machine.daemon.find('1/xvda').resize();
    expect(await guest.frontend.capacity()).toBe(32 * MIB);
    await expectWriteAndVerify(guest.frontend, upper);
    truncateSync(image, 24 * MIB);
    await expect(machine.daemon.find('1/xvda').resize()).rejects.toMatchObject({
      code: 'RESIZE_REFUSED',
    });
  });
});
