// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import {
  isToken,
  parseEstimate,
  receiveArguments,
  sendArguments,
} from '../../../src/zfs/send_arguments.ts';

describe('zfs send and receive', () => {
  it('send what is encrypted as it is, and nothing else', () => {
    const snapshot = 'tank/ringdisk/vm1@b';
    expect(sendArguments({ snapshot, encrypted: true }).join(' ')).toBe(`send -p -w ${snapshot}`);
    const since = { snapshot, encrypted: false, from: 'tank/ringdisk/vm1@a' };
    expect(sendArguments(since).join(' ')).toBe(
      'send -p -c -e -L -i tank/ringdisk/vm1@a tank/ringdisk/vm1@b',
    );
  });

  it('name no property twice', () => {
    const without = ['ringdisk:replica', 'snapdev'];
    const settings = { 'ringdisk:replica': 'tank/nightly' };
    expect(receiveArguments({ dataset: 'b/ringdisk/vm1', without, settings }).join(' ')).toBe(
      'receive -s -u -x snapdev -o ringdisk:replica=tank/nightly b/ringdisk/vm1',
    );
  });

  it('tell how much it will be, and of what snapshot', () => {
    expect(parseEstimate('full\ttank/a@b\t4096\nsize\t4096\n')).toEqual({ bytes: 4096 });
    const text = `resume token contents:
nvlist version: 0
	object = 0x1
	offset = 0x2a0000
	bytes = 0x2b1234
	toguid = 0xd2c8f2a1f0a1b2c3
	toname = tank/ringdisk/vm1@b
	compressok = 1
full	tank/ringdisk/vm1@b	1048576
size	1048576
`;
    expect(parseEstimate(text)).toEqual({ bytes: 1048576, toGuid: '15188656520647783107' });
    expect(parseEstimate('')).toEqual({});
  });

  it('take a token for one', () => {
    expect(isToken('1-f6b5e1a54-c8-789c636064')).toBe(true);
    expect(isToken('-')).toBe(false);
    expect(isToken('1-f6b5e1a54-c8; reboot')).toBe(false);
  });
});
