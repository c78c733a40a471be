// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { TargetSpecError } from '../../../src/errors.ts';
import { parseTarget } from '../../../src/target/target_spec.ts';

describe('parseTarget', () => {
  test.each([
    ['/dev/zvol/tank/a', undefined, '/dev/zvol/tank/a'],
    ['/dev/disk/by-path/pci-0000:00:1f.2', undefined, '/dev/disk/by-path/pci-0000:00:1f.2'],
    ['aio:/srv/disk.img', undefined, '/srv/disk.img'],
    ['raw:/dev/nvme0n1', undefined, '/dev/nvme0n1'],
    ['phy:/dev/vg/lv', undefined, '/dev/vg/lv'],
    ['file:/srv/disk.img', 'file', '/srv/disk.img'],
    ['file:///srv/disk.img', 'file', '/srv/disk.img'],
    ['FILE:/srv/disk.img', 'file', '/srv/disk.img'],
    ['block:/dev/sda', 'block', '/dev/sda'],
    ['nvme:/dev/ng0n1', 'nvme', '/dev/ng0n1'],
    ['aio:nvme:/dev/ng0n1', 'nvme', '/dev/ng0n1'],
    ['raw:aio:block:/dev/a:b', 'block', '/dev/a:b'],
    ['null:1048576', 'null', '1048576'],
    ['null:512', 'null', '512'],
    ['null:512K', 'null', '524288'],
    ['null:20m', 'null', '20971520'],
    ['null:64G', 'null', '68719476736'],
    ['aio:null:8T', 'null', '8796093022208'],
  ])('%s', (params, kind, path) => {
    expect(parseTarget(params)).toEqual(kind === undefined ? { path } : { kind, path });
  });

  test.each([
    ['on-error=stop:/dev/vg/a', { onError: 'stop', path: '/dev/vg/a' }],
    ['aio:ON-ERROR=report:/dev/vg/a', { onError: 'report', path: '/dev/vg/a' }],
    ['aio:on-error=stop:null:512', { onError: 'stop', kind: 'null', path: '512' }],
    ['on-error=report:on-error=stop:file:/a', { onError: 'stop', kind: 'file', path: '/a' }],
    ['share:/dev/vg/a', { share: true, path: '/dev/vg/a' }],
    ['aio:share:on-error=stop:/a', { share: true, onError: 'stop', path: '/a' }],
    ['/srv/on-error=stop:a', { path: '/srv/on-error=stop:a' }],
  ])('%s has an option', (params, target) => {
    expect(parseTarget(params)).toEqual(target);
  });

  test.each([
    ['', /empty/],
    ['disk.img', /"disk.img" is not an absolute path/],
    ['aio:', /not an absolute path/],
    ['aio:disk.img', /not an absolute path/],
    ['file:../disk.img', /not an absolute path/],
    ['file://host/disk.img', /names a host/],
    ['/srv/a\0b', /NUL/],
    [`/${'a'.repeat(4095)}`, /longer than 4095 bytes/],
    [`/${'ä'.repeat(2048)}`, /longer than 4095 bytes/],
    ['vhd:/srv/a.vhd', /vhd image; only raw/],
    ['aio:qcow2:/srv/a', /qcow2 image/],
    ['iscsi:/a', /starts with "iscsi", which is none of/],
    ['on-error=ignore:/a', /asks for "on-error=ignore"; on-error is one of report, stop/],
    ['file:on-error=stop:/a', /not an absolute path/],
    ['constructor:/a', /starts with "constructor"/],
    ['aio:aio:aio:aio:aio:/a', /too many prefixes/],
    ['null:', /size ""/],
    ['null:0', /size "0"/],
    ['null:511', /multiple of 512/],
    ['null:1P', /size "1P"/],
    ['null:-512', /size "-512"/],
    ['null:1.5G', /size "1.5G"/],
    ['null:9999999999999999T', /size/],
  ])('%j is refused', (params, message) => {
    expect(() => parseTarget(params)).toThrow(TargetSpecError);
    expect(() => parseTarget(params)).toThrow(message);
  });

  test('any text is refused with a sentence or becomes an absolute path or a size', () => {
    const prefix = fc.constantFrom(
      '',
      'aio:',
      'raw:',
      'file:',
      'block:',
      'null:',
      'nvme:',
      'x:',
      'on-error=stop:',
      '/',
    );
    fc.assert(
      fc.property(
        fc.array(prefix, { maxLength: 5 }),
        fc.string({ unit: 'binary' }),
        (words, end) => {
          try {
            const { kind, path } = parseTarget(words.join('') + end);
            expect(path).toMatch(kind === 'null' ? /^[1-9][0-9]*$/ : /^\/(?!\/)/);
          } catch (error) {
            expect(error).toBeInstanceOf(TargetSpecError);
            expect((error as Error).message).toMatch(/\.$/);
          }
        },
      ),
    );
  });
});
