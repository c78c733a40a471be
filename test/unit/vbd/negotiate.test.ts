// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from 'vitest';
import type { ToolstackNodes } from '../../../src/blkif/backend_nodes.ts';
import type { FrontendNodes } from '../../../src/blkif/frontend_nodes.ts';
import { parseConfig } from '../../../src/config.ts';
import {
  agree,
  describeMedia,
  diskValues,
  isCdrom,
  makeOffer,
  offerValues,
} from '../../../src/vbd/negotiate.ts';
import { someCapabilities } from '../../support/fake_datapath.ts';

const toolstack: ToolstackNodes = {
  frontend: '/local/domain/7/device/vbd/51712',
  online: true,
  params: 'null:1G',
  mode: 'w',
  dev: 'xvda',
  removable: false,
  deviceType: 'disk',
  discardEnable: true,
  limits: undefined,
  script: undefined,
  shutdownRequest: undefined,
};

const frontend: FrontendNodes = {
  abi: 'x86_64',
  ringPageOrder: 1,
  persistent: true,
  queues: [{ ringRefs: [8, 9], eventChannel: 5 }],
};

describe('makeOffer', () => {
  test('is the same on every host with the same configuration', () => {
    const small = makeOffer(parseConfig({ reactors: 1 }), someCapabilities);
    const large = makeOffer(parseConfig({ reactors: 4 }), someCapabilities);
    expect(small).toEqual(large);
    expect(small).toEqual({
      queuesMax: 8,
      ringPageOrderMax: 4,
      indirectSegmentsMax: 256,
      persistent: true,
    });
  });

  test('one queue for an NBD server that lets nobody have two connections', () => {
    const capabilities = { ...someCapabilities, oneChannel: true };
    expect(makeOffer(parseConfig({}), capabilities).queuesMax).toBe(1);
  });

  test('an empty drive is offered like any other', () => {
    expect(makeOffer(parseConfig({}), undefined).queuesMax).toBe(8);
  });

  test.each([
    ['auto', true],
    ['persistent', true],
    ['copy', false],
    ['map', false],
  ] as const)('grants=%s: persistent %s', (grants, persistent) => {
    expect(makeOffer(parseConfig({ grants }), someCapabilities).persistent).toBe(persistent);
  });

  test('both spellings of the ring size', () => {
    const values = offerValues(makeOffer(parseConfig({ ringPageOrderMax: 3 }), someCapabilities));
    expect(values).toMatchObject({ ringPageOrderMax: 3, ringPagesMax: 8 });
  });
});

describe('describeMedia', () => {
  test('a disk', () => {
    expect(describeMedia(toolstack, false, someCapabilities)).toEqual({
      cdrom: false,
      removable: false,
      readOnly: false,
      discard: true,
      secureDiscard: false,
      sectorSize: 512,
      physicalSectorSize: 4096,
    });
  });

  test.each([
    ['mode r', { ...toolstack, mode: 'r' as const }, false, someCapabilities],
    ['a CD', toolstack, true, someCapabilities],
    ['a read-only medium', toolstack, false, { ...someCapabilities, readOnly: true }],
  ])('%s is read-only, and never discards', (_what, nodes, cdrom, capabilities) => {
    const media = describeMedia(nodes, cdrom, { ...capabilities, secureDiscard: true });
    expect(media).toMatchObject({ readOnly: true, discard: false, secureDiscard: false });
  });

  test.each([
    [true, true, true],
    [undefined, true, true],
    [false, true, false],
    [true, false, false],
  ])('discard-enable %s on a medium with discard %s: %s', (discardEnable, discard, expected) => {
    const capabilities = { ...someCapabilities, discard, secureDiscard: discard };
    const media = describeMedia({ ...toolstack, discardEnable }, false, capabilities);
    expect(media).toMatchObject({ discard: expected, secureDiscard: expected });
  });

  test.each([
    ['cdrom', undefined, true],
    ['disk', 'cdrom', false],
    [undefined, 'cdrom', true],
    [undefined, undefined, false],
  ])('device-type %s, in the frontend %s: CD %s', (deviceType, inFrontend, expected) => {
    expect(isCdrom({ ...toolstack, deviceType }, inFrontend)).toBe(expected);
  });
});

describe('diskValues', () => {
  const media = describeMedia(toolstack, false, someCapabilities);

  test.each([
    [512, {}, 512, 512],
    [4096, {}, 512, 4096],
    // A volume of ZFS.
    [131_072, {}, 512, 4096],
    [131_072, { physicalSectorSize: 16_384 }, 512, 16_384],
    [512, { sectorSize: 4096 }, 4096, 4096],
    [512, { sectorSize: 4096, physicalSectorSize: 512 }, 4096, 4096],
  ] as const)('a medium of %i with %j', (physicalBlock, options, logical, physical) => {
    const capabilities = { ...someCapabilities, physicalBlock };
    const shown = describeMedia(toolstack, false, capabilities, options);
    expect(diskValues(shown, capabilities)).toMatchObject({
      sectorSize: logical,
      physicalSectorSize: physical,
    });
  });

  test('a disk of larger sectors has whole ones, counted in 512 bytes', () => {
    const capabilities = { ...someCapabilities, capacity: 4096 * 100 + 2048, discard: true };
    const shown = describeMedia(toolstack, false, capabilities, { sectorSize: 4096 });
    const values = diskValues(shown, { ...capabilities, discardGranularity: 512 });
    expect(values).toMatchObject({ sectors: 800, discardGranularity: 4096 });
  });

  test('sizes are in units of 512 bytes, whatever the medium has', () => {
    const capabilities = { ...someCapabilities, ioAlignment: 4096, physicalBlock: 4096 };
    expect(diskValues(media, capabilities)).toMatchObject({
      sectors: (1 << 30) / 512,
      sectorSize: 512,
      physicalSectorSize: 4096,
    });
  });

  test('flush and barrier are always offered', () => {
    const values = diskValues({ ...media, readOnly: true }, someCapabilities);
    expect(values).toMatchObject({ flushCache: true, barrier: true });
  });

  test('info', () => {
    expect(diskValues({ ...media, cdrom: true }, someCapabilities).info).toBe(1);
    expect(diskValues({ ...media, removable: true }, someCapabilities).info).toBe(2);
    expect(diskValues({ ...media, readOnly: true }, someCapabilities).info).toBe(4);
  });
});

describe('agree', () => {
  const media = describeMedia(toolstack, false, someCapabilities);
  const grantsOf = (grants: 'auto' | 'persistent' | 'copy' | 'map', persistent: boolean) => {
    const config = parseConfig({ grants });
    const offer = makeOffer(config, someCapabilities);
    return agree(config, offer, media, { ...frontend, persistent }).grants;
  };

  test.each([
    ['auto', true, 'persistent'],
    ['auto', false, 'copy'],
    ['auto', false, 'copy'],
    ['persistent', true, 'persistent'],
    ['persistent', false, 'copy'],
    ['copy', true, 'copy'],
    ['map', true, 'map'],
    ['map', false, 'map'],
  ] as const)('grants=%s, frontend persistent %s: %s', (grants, persistent, expected) => {
    expect(grantsOf(grants, persistent)).toBe(expected);
  });

  test('takes over what the frontend chose', () => {
    const config = parseConfig({});
    const offer = makeOffer(config, someCapabilities);
    expect(agree(config, offer, media, frontend)).toEqual({
      abi: 'x86_64',
      queues: frontend.queues,
      ringPageOrder: 1,
      grants: 'persistent',
      indirectSegmentsMax: 256,
      readOnly: false,
      discard: true,
      secureDiscard: false,
    });
  });
});
