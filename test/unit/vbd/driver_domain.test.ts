// SPDX-License-Identifier: Apache-2.0
// A daemon in domain 3: it may read of a frontend what the toolstack lets it, and nothing above it.
import { afterEach, beforeEach, expect, it } from 'vitest';
import { ControlPlane } from '../../support/control_plane.ts';

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
