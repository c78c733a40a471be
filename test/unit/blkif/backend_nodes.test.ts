// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, test } from 'vitest';
import {
  encodeBackendValues,
  publish,
  readBackendDirectory,
} from '../../../src/blkif/backend_nodes.ts';
import type { XenstoreClient } from '../../../src/xenstore/client.ts';
import { MemoryStore } from '../../../src/xenstore/memory_store.ts';

const directory = '/local/domain/0/backend/vbd3/7/51712';
let xenstore: XenstoreClient;

beforeEach(() => {
  xenstore = new MemoryStore().client(0);
});

async function write(nodes: Record<string, string>): Promise<void> {
  for (const [node, value] of Object.entries(nodes)) {
    await xenstore.write(`${directory}/${node}`, value);
  }
}

describe('readBackendDirectory', () => {
  test('no state, no device', async () => {
    expect(await readBackendDirectory(xenstore, directory)).toBeUndefined();
    await write({ params: 'null:1M' });
    expect(await readBackendDirectory(xenstore, directory)).toBeUndefined();
  });

  test('what xl writes', async () => {
    await write({
      state: '1',
      frontend: '/local/domain/7/device/vbd/51712',
      online: '1',
      params: 'aio:/dev/a',
      mode: 'r',
      dev: 'xvda',
      removable: '1',
      'device-type': 'disk',
      'discard-enable': '0',
      'direct-io-safe': '1',
    });
    expect(await readBackendDirectory(xenstore, directory)).toEqual({
      state: 'Initialising',
      toolstack: {
        frontend: '/local/domain/7/device/vbd/51712',
        online: true,
        params: 'aio:/dev/a',
        mode: 'r',
        dev: 'xvda',
        removable: true,
        deviceType: 'disk',
        discardEnable: false,
      },
      problem: undefined,
      limitsProblem: undefined,
    });
  });

  test('defaults of what is missing', async () => {
    await write({ state: '4' });
    expect((await readBackendDirectory(xenstore, directory))?.toolstack).toEqual({
      frontend: undefined,
      online: true,
      params: undefined,
      mode: 'w',
      dev: undefined,
      removable: false,
      deviceType: undefined,
      discardEnable: true,
    });
  });

  test('a senseless node is a problem, and hides nothing else', async () => {
    await write({ state: '5', online: '0', mode: 'maybe' });
    const read = await readBackendDirectory(xenstore, directory);
    expect(read).toMatchObject({ state: 'Closing', toolstack: { online: false, mode: 'w' } });
    expect(read?.problem?.message).toContain('backend node mode is "maybe", not one of r, w');
    await write({ state: 'x' });
    expect(await readBackendDirectory(xenstore, directory)).toMatchObject({ state: 'Unknown' });
  });
});

describe('publish', () => {
  test('writes all, the state last', async () => {
    expect(encodeBackendValues({ state: 'Connected', sectors: 8, discard: false })).toEqual([
      ['sectors', '8'],
      ['feature-discard', '0'],
      ['state', '4'],
    ]);
    await write({ state: '2' });
    const values = { sectors: 2 ** 40, state: 'Connected' } as const;
    expect(await publish(xenstore, directory, 'InitWait', values)).toBe('published');
    expect(await xenstore.read(`${directory}/sectors`)).toBe('1099511627776');
    expect(await xenstore.read(`${directory}/state`)).toBe('4');
  });

  test('never overrules the toolstack', async () => {
    await write({ state: '5' });
    expect(await publish(xenstore, directory, 'InitWait', { state: 'Connected' })).toBe('moved');
    expect(await xenstore.read(`${directory}/state`)).toBe('5');
  });

  test('never brings a removed device back', async () => {
    expect(await publish(xenstore, directory, 'Closing', { state: 'Closed' })).toBe('gone');
    expect(await xenstore.read(directory)).toBeUndefined();
  });
});
