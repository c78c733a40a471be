// SPDX-License-Identifier: Apache-2.0
// A daemon in domain 3: it may read of a frontend what the toolstack lets it, and nothing above it.
import { afterEach, beforeEach, expect, it } from 'vitest';
import { ControlPlane, eventually } from '../../support/control_plane.ts';

let plane: ControlPlane;
beforeEach(async () => {
  plane = new ControlPlane(3);
  await plane.start();
});
afterEach(() => plane.end());

it('serves a guest', async () => {
  const disk = await plane.attach();
  await disk.connect();
  expect(disk.vbd.info().state).toBe('Connected');
});

it('closes when the folder of the frontend is gone, of which xenstored says EACCES', async () => {
  const disk = await plane.attach();
  await disk.connect();
  // As libxl's forced removal: the folder, then what is left empty above it.
  await disk.deleteFrontend();
  await plane.xenstore.remove('/local/domain/7/device');
  await disk.remove();
  await disk.expectState('6');
  expect(plane.lines.filter(({ msg }) => msg.includes('xenstore failed'))).toEqual([]);
});

it('closes a disk whose guest hides its state, when the toolstack says so', async () => {
  const disk = await plane.attach();
  await disk.connect();
  const guest = plane.store.client(7);
  await guest.setPermissions(`${disk.frontend}/state`, [{ domid: 7, access: 'n' }]);
  await disk.remove();
  await disk.expectState('6');
});

it('serves more disks of a guest than there are watches', async () => {
  await plane.end();
  plane = new ControlPlane(3, { watches: 3 });
  await plane.start();
  const devids = Array.from({ length: 20 }, (_, index) => 51712 + 16 * index);
  const disks = await Promise.all(devids.map((devid) => plane.attach({}, { devid })));
  await Promise.all(disks.map((disk) => disk.connect()));
  await Promise.all(disks.map((disk) => disk.remove()));
  for (const disk of disks) await disk.writeFrontend({ state: '6' });
  await Promise.all(disks.map((disk) => disk.expectState('6')));
});

it('says which quota keeps a disk from being served, and goes on when it can', async () => {
  await plane.end();
  plane = new ControlPlane(3, { watches: 2 });
  await plane.start();
  const first = await plane.attach({}, { domid: 7 });
  await first.connect();
  const second = await plane.attach({}, { domid: 8 });
  await eventually(async () => (await second.read('hotplug-status')) === 'error', 'a refusal');
  expect(await second.read('hotplug-error')).toMatch(/quota of watches is used up/);
  await first.deleteBackend();
  await second.connect();
  expect(second.vbd.info().error).toBeUndefined();
});

it('takes over many disks with the transactions that xenstored allows', async () => {
  const devids = Array.from({ length: 40 }, (_, index) => 51712 + 16 * index);
  const disks = await Promise.all(devids.map((devid) => plane.attach({}, { devid })));
  await Promise.all(disks.map((disk) => disk.connect()));
  await plane.kill();
  await plane.start();
  await Promise.all(disks.map((disk) => disk.expectOurState('Connected')));
  expect(plane.lines.filter(({ msg }) => msg.includes('xenstore failed'))).toEqual([]);
});
