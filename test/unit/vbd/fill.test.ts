// SPDX-License-Identifier: Apache-2.0
import { expect, it } from 'vitest';
import type { FillStatus } from '../../../src/datapath/binding.ts';
import type { Device } from '../../../src/vbd/device.ts';
import { changeFill } from '../../../src/vbd/fill.ts';

const STATUS: FillStatus = {
  chunkBytes: 65536,
  chunks: 100,
  here: 40,
  unsaved: 2,
  fetchedBytes: 65536,
  errors: 0,
  failing: '',
  rate: 0,
  paused: false,
  full: false,
};

/** As much of a VBD as is looked at. */
function device(kind: string, status: FillStatus | undefined): Device {
  let now = status;
  const target = {
    capabilities: { capacity: 1000 },
    fill: () => now,
    setFill: (rate: number, paused: boolean) => {
      now = now && { ...now, rate, paused };
    },
  };
  const id = { kind: 'vbd3', domid: 3, devid: 51712 };
  return { id, medium: { spec: { kind, path: '/a::/b' }, target } } as unknown as Device;
}

it('tells how far it is, in bytes', () => {
  expect(changeFill(device('fill', STATUS), {})).toEqual({
    state: 'filling',
    bytes: 100 * 65536,
    bytesHere: 40 * 65536,
    bytesUnsaved: 2 * 65536,
    bytesFetched: 65536,
    rate: 0,
    errors: 0,
  });
});

it('changes what is asked for, and nothing else', () => {
  const one = device('fill', { ...STATUS, rate: 5000 });
  expect(changeFill(one, { paused: true })).toMatchObject({ state: 'paused', rate: 5000 });
  expect(changeFill(one, { rate: 9000 })).toMatchObject({ state: 'paused', rate: 9000 });
  expect(changeFill(one, { paused: false })).toMatchObject({ state: 'filling', rate: 9000 });
});

it('says that it fails, and what is full is full, however it became so', () => {
  expect(changeFill(device('fill', { ...STATUS, failing: 'EIO' }), {})).toMatchObject({
    state: 'failing',
    error: 'EIO',
  });
  for (const full of [undefined, { ...STATUS, full: true }]) {
    expect(changeFill(device('fill', full), { rate: 1 })).toMatchObject({
      state: 'full',
      bytes: 1000,
      bytesHere: 1000,
    });
  }
});

it('refuses other disks', () => {
  expect(() => changeFill(device('file', undefined), {})).toThrow('is not filled from a source');
  const none = { ...device('fill', STATUS), medium: undefined };
  expect(() => changeFill(none as unknown as Device, {})).toThrow('is not open');
});
