// SPDX-License-Identifier: Apache-2.0
// What programs say of their end, as the reason that an operator and a toolstack are told.
import { describe, expect, it } from 'vitest';
import { reasonOf } from '../../../src/formats/watch_helper.ts';

describe('the reason why a program has ended', () => {
  it.each([
    [[], 'EIO', /does not say why/],
    [['nbdkit: curl: cannot connect'], 'EIO', /^curl: cannot connect$/],
    [
      [
        'qemu-storage-daemon: Failed to get "write" lock',
        'Is another process using the image [/srv/a]?',
      ],
      'EBUSY',
      /^Failed to get "write" lock\. Another program uses it/,
    ],
    [["qemu-storage-daemon: Unknown driver 'rbd'"], 'ENOPKG', /qemu-block-extra/],
    [
      ["qemu-storage-daemon: Could not open '/srv/a': Read-only file system"],
      'EROFS',
      /Read-only file system$/,
    ],
    [["qemu-storage-daemon: Could not open '/srv/a': Permission denied"], 'EACCES', /denied$/],
    [["qemu-storage-daemon: Could not open '/srv/a': No such file or directory"], 'ENOENT', /No/],
    [['qemu-storage-daemon: Image is not in qcow2 format'], 'EIO', /^Image is not/],
  ])('%j', (lines, code, message) => {
    const reason = reasonOf(lines);
    expect(reason.code).toBe(code);
    expect(reason.message).toMatch(message);
  });
});
