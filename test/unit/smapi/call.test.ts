// SPDX-License-Identifier: Apache-2.0
// The two styles in which the executables are called.
import { describe, expect, test } from 'vitest';
import { parseCall } from '../../../src/smapi/call.ts';

const VOLUME = '/usr/libexec/xapi-storage-script/volume/org.xen.xapi.storage.ringdisk';
const DATAPATH = '/usr/libexec/xapi-storage-script/datapath/ringdisk';

function byWords(script: string, ...words: string[]) {
  return parseCall({ script, style: 'argv', text: words.join('\0') });
}

describe('by words, as static-vdis calls before XAPI is there', () => {
  test('the plugin, in its own spelling of the method', () => {
    const call = byWords(`${VOLUME}/Plugin.Query`, 'static-vdis');
    expect(call).toEqual({
      kind: 'volume',
      method: 'Plugin.query',
      params: { dbg: 'static-vdis' },
    });
    expect(byWords(`${DATAPATH}/Plugin.Query`, 'static-vdis').kind).toBe('datapath');
  });

  test('an SR, by its configuration', () => {
    const words = ['--configuration', 'pool', 'tank', '--configuration', 'guid', '77'];
    const { params } = byWords(`${VOLUME}/SR.attach`, 'static-vdis', ...words);
    expect(params).toEqual({ dbg: 'static-vdis', configuration: { pool: 'tank', guid: '77' } });
  });

  test('a disk, by its URI', () => {
    const { params } = byWords(`${DATAPATH}/Datapath.attach`, 'static-vdis', 'ringdisk://a/b', '0');
    expect(params).toEqual({ dbg: 'static-vdis', uri: 'ringdisk://a/b', domain: '0' });
  });

  test('numbers and words for yes and no are what they say', () => {
    const words = ['static-vdis', 'tank', 'a name', '', '1048576', 'false'];
    expect(byWords(`${VOLUME}/Volume.create`, ...words).params).toMatchObject({
      name: 'a name',
      size: 1048576,
      sharable: false,
    });
  });

  test('what is missing is named', () => {
    const call = () => byWords(`${VOLUME}/Volume.stat`, 'static-vdis', 'tank');
    expect(call).toThrow(/Volume\.stat: key/);
  });
});

test('with tracing the caller’s word has two lines, and is not read', () => {
  const request = {
    key: 'k',
    sr: 's',
    dbg: 'task ref\n00-0af7651916cd43dd8448eb211c80319c-b7ad-01',
  };
  const raw = { script: `${VOLUME}/Volume.stat`, style: 'json', text: JSON.stringify(request) };
  expect(parseCall({ ...raw, style: 'json' }).params).toEqual(request);
});

test('what is not JSON, or no method, is said', () => {
  const call = (script: string, text: string) => () => parseCall({ script, style: 'json', text });
  expect(call(`${VOLUME}/Volume.stat`, '{')).toThrow(/not JSON/);
  expect(call(`${VOLUME}/Volume.compare`, '{}')).toThrow('Unimplemented: Volume.compare');
  // Of the other plugin.
  expect(call(`${VOLUME}/Datapath.attach`, '{}')).toThrow('Unimplemented: Datapath.attach');
});
