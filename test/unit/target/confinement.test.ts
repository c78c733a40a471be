// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { TargetSpecError } from '../../../src/errors.ts';
import { confinementHint } from '../../../src/target/confinement.ts';

const failed = (code: string) => Object.assign(new Error('it failed'), { code });

describe('confinementHint', () => {
  it.each([
    ['EROFS', '/data/disk.img', /ReadWritePaths=/],
    ['EPERM', '/dev/sda', /DeviceAllow=/],
    ['EACCES', '/home/alice/disk.img', /ProtectHome=/],
    ['ENOENT', '/tmp/disk.img', /PrivateTmp=/],
    ['ENOENT', 'cache.direct=on:/tmp/disk.qcow2', /PrivateTmp=/],
    ['EACCES', '/srv/disk.img', /chown/],
  ])('%s of %s in the service', (code, path, hint) => {
    expect(confinementHint(failed(code), path, true)).toMatch(hint);
  });

  it.each(['EROFS', 'EPERM', 'ENOENT'])('%s elsewhere means what it says', (code) => {
    expect(confinementHint(failed(code), '/home/alice/disk.img', false)).toBeUndefined();
  });

  it('has nothing to say of a path that is not there', () => {
    expect(confinementHint(failed('ENOENT'), '/srv/disk.img', true)).toBeUndefined();
  });

  it('knows the cause of an error of ours', () => {
    const error = new TargetSpecError('It cannot be looked at.', { cause: failed('EACCES') });
    expect(confinementHint(error, '/root/disk.img', true)).toMatch(/ProtectHome=/);
  });
});
