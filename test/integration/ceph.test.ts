// SPDX-License-Identifier: Apache-2.0
// A guest's disk in a real Ceph cluster, of one node.
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Ceph, whyNoCeph } from '../support/ceph.ts';
import { DISK_BYTES, expectFilled, fill } from '../support/disk_load.ts';
import { MIB, workload } from '../support/loopback_machine.ts';
import { type RestartGuest, RestartMachine } from '../support/restart_machine.ts';
import { temporaryFolder } from '../support/temporary_folder.ts';

const none = whyNoCeph();

describe('a guest on an RBD image', () => {
  let ceph: Ceph;
  let machine: RestartMachine;
  let disks = 0;
  beforeAll(async () => {
    if (!none) ceph = await Ceph.start(`${temporaryFolder()}/ceph`);
  }, 120_000);
  afterAll(async () => {
    if (!none) await ceph.close();
  });
  beforeEach(async ({ skip }) => {
    if (none) skip(none);
    machine = await RestartMachine.start();
  });
  afterEach(async () => {
    if (!none) await machine.close();
  });

  /** The name of a new image. */
  function image(): string {
    const name = `rbd/disk${++disks}`;
    ceph.rbd('create', name, '--size', `${DISK_BYTES / MIB}M`);
    return name;
  }

  function used(name: string): number {
    return JSON.parse(ceph.rbd('du', name, '--format', 'json')).images[0].used_size;
  }

  async function connect(image: string, mode: 'r' | 'w' = 'w'): Promise<RestartGuest> {
    const guest = await machine.plug(0, `on-error=stop:rbd:conf=${ceph.conf}:${image}`, mode);
    await guest.frontend.connect();
    return guest;
  }

  it('writes, reads, and finds what a snapshot kept', async () => {
    const name = image();
    const guest = await connect(name);
    await guest.frontend.run(fill(1));
    await guest.frontend.run(workload('flush'));
    ceph.rbd('snap', 'create', `${name}@before`);
    await guest.frontend.run(fill(2));
    await expectFilled(guest, 2);
    await expectFilled(await connect(`${name}@before`, 'r'), 1);
    await machine.unplug(guest);
  }, 120_000);

  it('gives room back', async () => {
    const name = image();
    const guest = await connect(name);
    await guest.frontend.run(fill(1));
    expect(used(name)).toBe(DISK_BYTES);
    // Only whole objects, of 4 MiB, are let go of.
    const whole = { blockBytes: DISK_BYTES, length: DISK_BYTES };
    expect(await guest.frontend.run(workload('discard', whole))).toMatchObject({ errors: 0 });
    await guest.frontend.run(workload('flush'));
    expect(used(name)).toBe(0);
    await machine.unplug(guest);
  }, 120_000);

  it('loses nothing while the OSD dies and comes back, and the daemon dies', async () => {
    const guest = await connect(image());
    const load = guest.frontend.run(fill(1));
    await sleep(200);
    await machine.killAndStartDaemon();
    await ceph.killOsd();
    await machine.killAndStartDaemon();
    ceph.startOsd();
    await machine.killAndStartDaemon();
    expect(await load).toMatchObject({ errors: 0 });
    await expectFilled(guest, 1);
    await machine.unplug(guest);
  }, 120_000);

  it('waits while the cluster is away, sees no error, and list says what hangs', async () => {
    const guest = await connect(image());
    await guest.frontend.run(fill(1));
    await ceph.killOsd();
    const load = guest.frontend.run(fill(2));
    await sleep(3000);
    const waiting = JSON.stringify(await machine.show(guest));
    ceph.startOsd();
    expect(await load).toMatchObject({ errors: 0 });
    await expectFilled(guest, 2);
    expect(waiting).toMatch(/"waits|"hangs/);
    await machine.unplug(guest);
  }, 120_000);
});
