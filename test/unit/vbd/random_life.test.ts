// SPDX-License-Identifier: Apache-2.0
// Whatever toolstack and frontend do, in whatever order: a device that is removed is answered with
// Closed, nothing stays open or connected, and nothing is connected twice or brought back.
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  blkfrontNodes,
  ControlPlane,
  type Disk,
  eventually,
  hastyTiming,
} from '../../support/control_plane.ts';

type Step = (disk: Disk, plane: ControlPlane) => Promise<unknown>;

const steps: Record<string, Step> = {
  'frontend is gone': (disk) => disk.deleteFrontend(),
  'frontend has bad rings': (disk) => disk.writeFrontend({ 'ring-ref': 'x', state: '3' }),
  'frontend has new rings': (disk) =>
    disk.writeFrontend({ ...blkfrontNodes, 'ring-ref': '21', state: '3' }),
  'frontend has its rings': (disk) => disk.writeFrontend({ ...blkfrontNodes, state: '3' }),
  'frontend starts over': async (disk) => {
    for (const state of ['5', '6', '1']) {
      await disk.writeFrontend({ state });
      await sleep(2);
    }
    await disk.writeFrontend({ ...blkfrontNodes, state: '3' });
  },
  'toolstack closes': (disk) => disk.writeBackend({ state: '5' }),
  'toolstack goes offline': (disk) => disk.writeBackend({ online: '0' }),
  'toolstack goes online': (disk) => disk.writeBackend({ online: '1' }),
  'toolstack changes the target': (disk) => disk.writeBackend({ params: 'null:2G' }),
  'toolstack writes nonsense': (disk) => disk.writeBackend({ params: 'x:y', mode: 'z' }),
  'toolstack corrects it': (disk) => disk.writeBackend({ params: 'null:1G', mode: 'w' }),
  'backend is gone': (disk) => disk.deleteBackend(),
  'attached again': (_disk, plane) => plane.attach(),
  'data path is slow': async (_disk, plane) => {
    plane.datapath.mayLetGo = () => sleep(15);
  },
  'data path refuses': async (_disk, plane) => {
    plane.datapath.connectError = 'refused';
  },
  'data path is well': async (_disk, plane) => {
    plane.datapath.connectError = undefined;
    plane.datapath.mayLetGo = () => Promise.resolve();
  },
  'daemon dies and is started again': async (_disk, plane) => {
    await plane.kill();
    await plane.start({}, hastyTiming);
  },
  'operator disconnects': async (disk, plane) => {
    const vbd = plane.daemon.vbds().find(({ id }) => id.domid === disk.id.domid);
    vbd?.disconnect({ force: false }).catch(() => undefined);
  },
  'operator takes it away': async (disk, plane) => {
    const vbd = plane.daemon.vbds().find(({ id }) => id.domid === disk.id.domid);
    vbd?.disconnect({ force: true }).catch(() => undefined);
  },
  'operator tries again': async (disk, plane) => {
    const vbd = plane.daemon.vbds().find(({ id }) => id.domid === disk.id.domid);
    vbd?.retry().catch(() => undefined);
  },
  'storage hangs': async (_disk, plane) => {
    plane.datapath.mayOpen = () => new Promise((resolve) => hanging.push(resolve));
  },
  'storage is slow': async (_disk, plane) => {
    plane.datapath.mayOpen = () => sleep(15);
    plane.datapath.mayClaim = () => sleep(15);
  },
  'storage is missing': async (_disk, plane) => {
    plane.datapath.openError = 'no such file';
  },
  'storage is well': async (_disk, plane) => {
    plane.datapath.openError = undefined;
    plane.datapath.mayOpen = () => Promise.resolve();
    plane.datapath.mayClaim = () => Promise.resolve();
  },
};
for (const state of ['0', '1', '2', '3', '4', '5', '6', '7', '8', '?']) {
  steps[`frontend says ${state}`] = (disk) => disk.writeFrontend({ state });
}

/** Opens that hang. */
const hanging: (() => void)[] = [];

const life = fc.array(
  fc.record({
    name: fc.constantFrom(...Object.keys(steps)),
    pause: fc.constantFrom(0, 0, 1, 3, 25),
  }),
  { minLength: 1, maxLength: 25 },
);

async function live(plane: ControlPlane, disk: Disk, script: { name: string; pause: number }[]) {
  for (const { name, pause } of script) {
    await steps[name]?.(disk, plane);
    if (pause > 0) await sleep(pause);
  }
}

test('a random life ends well', { timeout: 120_000 }, async () => {
  const property = fc.asyncProperty(life, async (script) => {
    const plane = new ControlPlane();
    await plane.start({}, hastyTiming);
    const disk = await plane.attach();
    await disk.connect();
    await live(plane, disk, script);
    if ((await disk.read('state')) !== undefined) {
      await disk.remove();
      // As libxl does when the guest refuses, and it is told to go on.
      await disk.deleteFrontend();
      await disk.expectState('6');
    }
    await disk.deleteBackend();
    await disk.deleteFrontend();
    // What a former daemon left under way on storage that hangs is waited for.
    await steps['storage is well']?.(disk, plane);
    for (const goOn of hanging.splice(0)) goOn();
    await eventually(
      () => plane.datapath.held === 0,
      'nothing held',
      () => plane.datapath.held,
    );
    await eventually(() => plane.daemon.vbds().length === 0, 'no VBD');
    expect(await plane.xenstore.read(disk.backend)).toBeUndefined();
    // The fake data path throws, as xenstore would, when it is misused: neither may happen.
    expect(plane.lines.filter((line) => line.msg.startsWith('xenstore failed'))).toEqual([]);
    const files = () => readdirSync(path.join(plane.runtimeDir, 'vbds'));
    await eventually(() => files().length === 0, 'no record', files);
    await plane.daemon.stop();
    expect(files()).toEqual([]);
  });
  await fc.assert(property, { numRuns: 40, interruptAfterTimeLimit: 60_000 });
});
