// SPDX-License-Identifier: Apache-2.0
// Data through the whole daemon: every way to reach the guest's memory, every ring.
import { afterEach, describe, expect, it } from 'vitest';
import type { ConfigOverrides } from '../../src/config.ts';
import {
  allocatedBytes,
  expectWriteAndVerify,
  LoopbackMachine,
  MIB,
  type TestGuest,
  timed,
  workload,
} from '../support/loopback_machine.ts';

let machine: LoopbackMachine | undefined;

afterEach(async () => {
  await machine?.close();
  machine = undefined;
});

async function plugImage(
  overrides: ConfigOverrides = {},
  spec: { mode?: 'r' | 'w' } = {},
): Promise<{ guest: TestGuest; image: string }> {
  machine = await LoopbackMachine.start(overrides);
  const image = machine.image(64 * MIB);
  return { guest: await machine.plug({ params: `aio:${image}`, ...spec }), image };
}

describe('grants', () => {
  it.each(['auto', 'persistent', 'copy', 'map'] as const)('%s', async (grants) => {
    const { guest } = await plugImage({ grants });
    await guest.frontend.connect();
    await expectWriteAndVerify(guest.frontend);
    await expectWriteAndVerify(guest.frontend, { blockBytes: 4096, length: MIB });
    await machine?.unplug(guest);
    machine?.expectNothingHeld();
  });

  it.each(['persistent', 'copy', 'map'] as const)(
    '%s, for a frontend without persistent grants or indirect requests',
    async (grants) => {
      const { guest } = await plugImage({ grants });
      const wishes = { persistentGrants: false, indirectSegments: 0 };
      const agreed = await guest.frontend.connect(wishes);
      expect(agreed).toMatchObject(wishes);
      await expectWriteAndVerify(guest.frontend, { blockBytes: 32768 });
    },
  );
});

describe('rings', () => {
  it.each(['native', 'x86_32', 'x86_64'] as const)('format %s', async (abi) => {
    const { guest } = await plugImage();
    await guest.frontend.connect({ abi });
    await expectWriteAndVerify(guest.frontend);
  });

  it.each([0, 1, 2, 3, 4])('of order %i', async (ringPageOrder) => {
    const { guest } = await plugImage();
    const agreed = await guest.frontend.connect({ ringPageOrder });
    expect(agreed.ringPageOrder).toBe(ringPageOrder);
    await expectWriteAndVerify(guest.frontend, { blockBytes: 4096, depth: 500, length: 4 * MIB });
  });

  it.each([1, 2, 3, 4])('%i of them', async (queues) => {
    const { guest } = await plugImage();
    const agreed = await guest.frontend.connect({ queues });
    expect(agreed.queues).toBe(queues);
    await expectWriteAndVerify(guest.frontend);
    expect(machine?.infos()[0]?.agreement?.queues).toHaveLength(queues);
  });

  it('takes requests of every size, down to one sector', async () => {
    const { guest } = await plugImage();
    await guest.frontend.connect();
    for (const blockBytes of [512, 1024, 3584, 4096, 12288, MIB]) {
      await expectWriteAndVerify(guest.frontend, { blockBytes, length: blockBytes * 16 });
    }
  });
});

describe('the target', () => {
  it('holds what a guest wrote and flushed', async () => {
    const { guest } = await plugImage();
    const agreed = await guest.frontend.connect();
    expect(agreed).toMatchObject({ capacity: 64 * MIB, flush: true, barrier: true });
    await expectWriteAndVerify(guest.frontend);
    const flushes = timed('flush', 100, { depth: 1 });
    expect(await guest.frontend.run(flushes)).toMatchObject({ errors: 0 });
    const barriers = await guest.frontend.run(
      workload('barrier', { blockBytes: 4096, length: MIB }),
    );
    expect(barriers).toMatchObject({ errors: 0, bytes: MIB });
    expect(await guest.frontend.run(workload('verify'))).toMatchObject({ mismatches: 0 });
  });

  it('shrinks on the host when the guest discards', async () => {
    const { guest, image } = await plugImage();
    const agreed = await guest.frontend.connect();
    expect(agreed.discard).toBe(true);
    await expectWriteAndVerify(guest.frontend);
    const before = allocatedBytes(image);
    expect(before).toBeGreaterThanOrEqual(8 * MIB);
    const discarded = await guest.frontend.run(workload('discard', { length: 4 * MIB }));
    expect(discarded.errors).toBe(0);
    expect(before - allocatedBytes(image)).toBeGreaterThanOrEqual(4 * MIB);
    const rest = workload('verify', { offset: 4 * MIB, length: 4 * MIB });
    expect(await guest.frontend.run(rest)).toMatchObject({ errors: 0, mismatches: 0 });
  });

  it('refuses writes and discards to a read-only disk', async () => {
    const { guest, image } = await plugImage({}, { mode: 'r' });
    const agreed = await guest.frontend.connect();
    expect(agreed).toMatchObject({ readOnly: true, discard: false });
    const written = await guest.frontend.run(workload('write'));
    expect(written.errors).toBe(written.requests);
    expect((await guest.frontend.run(workload('read'))).errors).toBe(0);
    expect(allocatedBytes(image)).toBe(0);
  });

  it('may be null: it takes everything and keeps nothing', async () => {
    machine = await LoopbackMachine.start();
    const guest = await machine.plug({ params: `null:${64 * MIB}` });
    await guest.frontend.connect();
    expect((await guest.frontend.run(workload('write'))).errors).toBe(0);
  });
});

describe('counters', () => {
  it('tell what a VBD did, and are in flight of nothing when it is idle', async () => {
    const { guest } = await plugImage();
    await guest.frontend.connect();
    await guest.frontend.run(workload('write', { blockBytes: 4096, length: MIB }));
    const [vbd] = machine?.infos() ?? [];
    expect(vbd?.counters).toMatchObject({
      writes: 256,
      writeBytes: MIB,
      reads: 0,
      ioErrors: 0,
      rejected: 0,
      inFlight: 0,
    });
  });
});
