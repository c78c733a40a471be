// SPDX-License-Identifier: Apache-2.0
// Three domains of two VMs want one medium, under two names, while daemons die and storage is slow
// or missing: no two VMs ever use it at the same time, and no VM meets its own past there.
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { DatapathError } from '../../../src/datapath/datapath.ts';
import {
  blkfrontNodes,
  ControlPlane,
  type Disk,
  eventually,
  hastyTiming,
} from '../../support/control_plane.ts';
import type { FakeConnection } from '../../support/fake_datapath.ts';

const VM_OF: Readonly<Record<number, string>> = { 7: '/vm/a', 8: '/vm/b', 9: '/vm/a' };
const FILE = '/srv/disk.img';
const LOOP = '/dev/loop0';

const timing = { ...hastyTiming, openMs: 30 };

class Host {
  readonly plane = new ControlPlane();
  readonly faults: string[] = [];
  readonly #disks = new Map<number, Disk>();
  readonly #leaving = new Set<FakeConnection>();
  readonly #letGos: (() => void)[] = [];

  async start(): Promise<void> {
    const { plane } = this;
    for (const [domid, vm] of Object.entries(VM_OF)) {
      await plane.xenstore.write(`/local/domain/${domid}/vm`, vm);
    }
    plane.datapath.media.set(FILE, { identity: 'file device 8:1 inode 12 born 1.2' });
    plane.datapath.media.set(LOOP, { identity: 'loop 8:1 inode 12 from 0 to 0 born 1.2' });
    const connect = plane.datapath.connect.bind(plane.datapath);
    plane.datapath.connect = async (target, options) => {
      const connection = await connect(target, options);
      this.#judge(connection);
      const disconnect = connection.disconnect.bind(connection);
      connection.disconnect = () => {
        this.#leaving.add(connection);
        return disconnect();
      };
      return connection;
    };
    await plane.start({}, timing);
  }

  #judge(connection: FakeConnection): void {
    const { domid, readOnly } = connection.options;
    for (const other of this.plane.datapath.connections) {
      if (other === connection || !other.isConnected) continue;
      const before = other.options;
      if (VM_OF[before.domid] !== VM_OF[domid] && !(before.readOnly && readOnly)) {
        this.faults.push(`${domid} and ${before.domid} use it at the same time`);
      } else if (this.#leaving.has(other) && before.domid !== domid && !before.readOnly) {
        this.faults.push(`${domid} meets what ${before.domid} has under way`);
      }
    }
    for (const vbd of this.plane.daemon.vbds()) {
      const { state, frontendState, ...left } = vbd.info();
      const isWaiting = state === 'Left' && frontendState === 'Connected' && !left.readOnly;
      if (isWaiting && VM_OF[left.domid] !== VM_OF[domid])
        this.faults.push(`${domid} uses what ${left.domid} waits for`);
    }
  }

  async step(domid: number, what: string): Promise<void> {
    const { plane } = this;
    const { datapath } = plane;
    const disk = this.#disks.get(domid);
    if (what === 'storage is slow') {
      datapath.mayLetGo = () => new Promise((resolve) => this.#letGos.push(resolve));
    } else if (what === 'storage is quick') this.goOn();
    else if (what === 'a name is missing') {
      datapath.mayOpen = async ({ path }) => {
        if (path === FILE) throw new DatapathError('ENOENT', 'no such file');
      };
    } else if (what === 'the daemon dies') {
      await plane.kill();
      await plane.start({}, timing);
    } else if (!disk) {
      const params = `aio:${what === 'attached by its other name' ? LOOP : FILE}`;
      const mode = what === 'attached to read' ? 'r' : 'w';
      this.#disks.set(domid, await plane.attach({ params, mode }, { domid }));
    } else if (what === 'destroyed') await this.#destroy(domid, disk);
    else if (what === 'starts over') {
      for (const state of ['6', '1']) {
        await disk.writeFrontend({ state });
        await sleep(2);
      }
    } else {
      const state = await disk.read('state');
      if (state === '2') await disk.writeFrontend({ ...blkfrontNodes, state: '3' });
      if (state === '4') await disk.writeFrontend({ state: '4' });
    }
  }

  goOn(): void {
    const { datapath } = this.plane;
    datapath.mayLetGo = () => Promise.resolve();
    datapath.mayOpen = () => Promise.resolve();
    for (const letGo of this.#letGos.splice(0)) letGo();
  }

  async #destroy(domid: number, disk: Disk): Promise<void> {
    await disk.remove();
    await disk.deleteFrontend();
    await sleep(3);
    if ((await disk.read('state')) !== '6') return;
    await disk.deleteBackend();
    this.#disks.delete(domid);
  }
}

const EVENTS = [
  'attached',
  'attached by its other name',
  'attached to read',
  'goes on',
  'goes on',
  'goes on',
  'starts over',
  'destroyed',
  'the daemon dies',
  'storage is slow',
  'storage is quick',
  'a name is missing',
];
const life = fc.array(
  fc.tuple(
    fc.constantFrom(7, 8, 9),
    fc.constantFrom(...EVENTS),
    // Milliseconds until the next.
    fc.constantFrom(0, 1, 5, 20),
  ),
  { minLength: 3, maxLength: 25 },
);

test('nobody meets anybody on one medium', { timeout: 120_000 }, async () => {
  const property = fc.asyncProperty(life, async (events) => {
    const host = new Host();
    await host.start();
    for (const [domid, what, pause] of events) {
      await host.step(domid, what);
      if (pause > 0) await sleep(pause);
    }
    host.goOn();
    await host.plane.end();
    expect(host.faults).toEqual([]);
    await eventually(() => host.plane.datapath.held === 0, 'nothing held');
  });
  await fc.assert(property, { numRuns: 150, interruptAfterTimeLimit: 20_000 });
});
