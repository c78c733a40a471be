// SPDX-License-Identifier: Apache-2.0
// One medium used in several ways: as an image and as the bytes that it lies in, as what another
// image is based on, as a partition of a device. One writer is enough to destroy what others use.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { MediumParts } from '../../../src/datapath/datapath.ts';
import { ControlPlane, type Disk, eventually } from '../../support/control_plane.ts';

const FILE = 'file device 8:1 inode 12 born 1.2';
const DISK = 'dm LVM-abc';

let plane: ControlPlane;
beforeEach(() => {
  plane = new ControlPlane();
});
afterEach(async () => {
  await plane.end();
  expect(plane.datapath.held).toBe(0);
});

interface Lies extends Partial<MediumParts> {
  readonly as: string;
}

/** What is at `path` from now on. */
function put(path: string, { as: identity, beside = [], bases = [] }: Lies): void {
  plane.datapath.media.set(path, { identity });
  if (beside.length + bases.length > 0) plane.datapath.parts.set(path, { beside, bases });
}

async function refusal(disk: Disk): Promise<string> {
  await eventually(async () => (await disk.read('hotplug-status')) === 'error', 'a refusal');
  return (await disk.read('hotplug-error')) ?? '';
}

type Mode = 'r' | 'w' | 'w!';

async function attach(domid: number, path: string, mode: Mode): Promise<Disk> {
  return plane.attach({ params: `aio:${path}`, mode }, { domid });
}

/** Whether both are had, whoever comes first. */
async function isFree(first: [string, Mode], second: [string, Mode]): Promise<boolean> {
  const one = await attach(7, ...first);
  await one.expectState('2');
  const other = await attach(8, ...second);
  const word = () => other.read('hotplug-status');
  await eventually(async () => (await word()) !== undefined, 'an answer', word);
  return (await word()) === 'connected';
}

describe.each<[string, Lies, Lies]>([
  ['a file', { as: `${FILE} as qcow2` }, { as: FILE }],
  ['a device', { as: `${DISK} as qcow2` }, { as: DISK }],
  [
    'a file, told by its loop device',
    { as: `${FILE} as vpc` },
    { as: 'loop 8:1 inode 12 from 0 to 0 born 1.2' },
  ],
  ['one in two formats', { as: `${FILE} as qcow2` }, { as: `${FILE} as vmdk` }],
  [
    'files beside the top one',
    { as: 'file device 8:1 inode 2 born 1.2 as vmdk', beside: [FILE] },
    { as: FILE },
  ],
])('an image and the bytes that it lies in: %s', (_what, image, bytes) => {
  beforeEach(async () => {
    put('/srv/image', image);
    put('/srv/bytes', bytes);
    await plane.start();
  });

  describe.each([
    ['/srv/image', '/srv/bytes'],
    ['/srv/bytes', '/srv/image'],
  ])('%s, then %s', (one, other) => {
    test.each<[Mode, Mode, boolean]>([
      ['w', 'w', false],
      ['w', 'r', false],
      ['r', 'w', false],
      ['r', 'r', true],
      ['w', 'w!', true],
    ])('%s and %s: %s', async (first, second, free) => {
      expect(await isFree([one, first], [other, second])).toBe(free);
    });
  });

  test('not even one VM has both', async () => {
    for (const domid of [7, 8]) await plane.xenstore.write(`/local/domain/${domid}/vm`, '/vm/a');
    expect(await isFree(['/srv/image', 'w'], ['/srv/bytes', 'w'])).toBe(false);
  });
});

describe.each<[string, string]>([
  ['a file', FILE],
  ['a device', DISK],
  ['an image', `${FILE} as qcow2`],
])('what an image is based on, %s', (_what, base) => {
  beforeEach(async () => {
    put('/srv/base', { as: base });
    const bases = [base.replace(' as qcow2', '')];
    put('/srv/image', { as: 'file device 8:1 inode 2 born 1.2 as qcow2', bases });
    put('/srv/other', { as: 'file device 8:1 inode 3 born 1.2 as qcow2', bases });
    await plane.start();
  });

  // Only who writes to the base is in the way.
  describe.each([false, true])('whoever comes first: the base: %s', (isBaseFirst) => {
    test.each<[image: Mode, base: Mode, boolean]>([
      ['w', 'w', false],
      ['r', 'w', false],
      ['w', 'r', true],
      ['r', 'r', true],
    ])('the image %s and its base %s: %s', async (image, base, free) => {
      const top: [string, Mode] = ['/srv/image', image];
      const below: [string, Mode] = ['/srv/base', base];
      expect(await (isBaseFirst ? isFree(below, top) : isFree(top, below))).toBe(free);
    });

    test('who says that he shares comes in', async () => {
      const first = isBaseFirst ? '/srv/base' : '/srv/image';
      const second = isBaseFirst ? '/srv/image' : '/srv/base';
      expect(await isFree([first, 'w'], [second, 'w!'])).toBe(true);
    });
  });

  test('is based on by several', async () => {
    expect(await isFree(['/srv/image', 'w'], ['/srv/other', 'w'])).toBe(true);
  });

  test('is for no writer while the image waits for its take-over', async () => {
    const disk = await attach(7, '/srv/image', 'w');
    await disk.connect();
    await plane.kill();
    plane.datapath.mayOpen = ({ path }) =>
      path === '/srv/image' ? new Promise(() => {}) : Promise.resolve();
    await plane.start();
    const writer = await attach(8, '/srv/base', 'w');
    expect(await refusal(writer)).toMatch(/in use by vbd3\/7\/51712 \(domain 7\)/);
    const reader = await attach(9, '/srv/base', 'r');
    await reader.expectState('2');
  });
});
