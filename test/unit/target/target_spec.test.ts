// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { TargetSpecError } from '../../../src/errors.ts';
import {
  isEmptyTarget,
  parseTarget,
  shownSizes,
  withFill,
} from '../../../src/target/target_spec.ts';

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
    // xenopsd puts a slash before the path of a disc that is inserted again.
    ['//dev/sm/backend/a', undefined, '/dev/sm/backend/a'],
    ['aio:///srv/a', undefined, '/srv/a'],
    // Relative to /dev, as xl's manual has it.
    ['vg/lv', undefined, '/dev/vg/lv'],
    ['phy:loop0', undefined, '/dev/loop0'],
    ['aio:block:vg/a:b', 'block', '/dev/vg/a:b'],
    ['nvme:ng0n1', 'nvme', '/dev/ng0n1'],
    ['disk/by-path/pci-0000:00:1f.2', undefined, '/dev/disk/by-path/pci-0000:00:1f.2'],
    ['fill:/srv/a.img::/mnt/b.img', 'fill', '/srv/a.img::/mnt/b.img'],
    ['aio:fill:rate=1M:/a::null:1M', 'fill', 'rate=1M:/a::null:1M'],
    // A volume of the manager's: its device, whoever runs.
    ['zfs:tank/vm1', 'block', '/dev/zvol/tank/ringdisk/vm1'],
    ['aio:ZFS:tank/vm-1.root_2', 'block', '/dev/zvol/tank/ringdisk/vm-1.root_2'],
    ['/srv/a b,c:[x]&\nä', undefined, '/srv/a b,c:[x]&\nä'],
    ['/srv/d\udce9j', undefined, '/srv/d\udce9j'],
  ])('%s', (params, kind, path) => {
    expect(parseTarget(params)).toEqual(kind === undefined ? { path } : { kind, path });
  });

  test.each([
    ['nbd:unix:/run/a.sock', '/run/a.sock'],
    ['nbd:unix:/run/a.sock:exportname=', '/run/a.sock'],
    ['nbd:unix:/run/a.sock:exportname=disk 1', '/run/a.sock:exportname=disk 1'],
    ['NBD:UNIX:/run/a:b.sock:exportname=a:exportname=b', '/run/a:b.sock:exportname=a:exportname=b'],
    ['aio:nbd:unix:/run/a.sock', '/run/a.sock'],
    ['nbd:///?socket=/run/a.sock', '/run/a.sock'],
    ['nbd://?socket=/run/a.sock', '/run/a.sock'],
    ['nbd:///disk?socket=/run/a.sock', '/run/a.sock:exportname=disk'],
    ['nbd+unix:///a%20b/c?socket=%2frun%2fa.sock', '/run/a.sock:exportname=a b/c'],
  ])('%s is an NBD export', (params, path) => {
    expect(parseTarget(params)).toEqual({ kind: 'nbd', path });
    expect(isEmptyTarget(params)).toBe(false);
  });

  test('an NBD export has options in front', () => {
    expect(parseTarget('on-error=stop:share:nbd:unix:/a')).toEqual({
      kind: 'nbd',
      path: '/a',
      onError: 'stop',
      share: true,
    });
  });

  test.each([
    ['nbd:', /names no UNIX socket; write nbd:unix:/],
    ['nbd:unix:', /no absolute path of a socket/],
    ['nbd:unix:run/a.sock', /no absolute path of a socket/],
    ['nbd:localhost:10809', /names no UNIX socket/],
    ['nbd://host/disk', /names a host, and NBD is reached by a UNIX socket; write nbd:unix:/],
    [
      'nbds://host/disk',
      /TLS, which takes a forwarder with a UNIX socket in front; write nbd:unix:/,
    ],
    ['nbds+unix:///disk?socket=/a', /TLS/],
    ['nbd:///disk', /names no socket in its URI/],
    ['nbd:///disk?socket=/a&socket=/b', /names no socket in its URI/],
    ['nbd:///disk?socket=/a&tls=1', /has "tls=1" in its URI/],
    ['nbd:///disk?socket=/a%zz', /not encoded as it should be/],
    ['nbd:///%00?socket=/a', /not encoded as it should be/],
    [`nbd:unix:/${'a'.repeat(107)}`, /by more than 107 bytes/],
    ['file:nbd:unix:/a', /both file and nbd/],
    [`nbd:unix:/a:exportname=${'a'.repeat(257)}`, /by more than 256 bytes/],
  ])('%s is refused', (params, sentence) => {
    expect(() => parseTarget(params)).toThrow(TargetSpecError);
    expect(() => parseTarget(params)).toThrow(sentence);
  });

  test.each([
    ['on-error=stop:/dev/vg/a', { onError: 'stop', path: '/dev/vg/a' }],
    ['aio:ON-ERROR=report:/dev/vg/a', { onError: 'report', path: '/dev/vg/a' }],
    ['aio:on-error=stop:null:512', { onError: 'stop', kind: 'null', path: '512' }],
    ['on-error=report:on-error=stop:file:/a', { onError: 'stop', kind: 'file', path: '/a' }],
    ['share:/dev/vg/a', { share: true, path: '/dev/vg/a' }],
    ['aio:share:on-error=stop:/a', { share: true, onError: 'stop', path: '/a' }],
    ['file:on-error=stop:/a', { onError: 'stop', kind: 'file', path: '/a' }],
    ['block:aio:on-error=stop:vg/a', { onError: 'stop', kind: 'block', path: '/dev/vg/a' }],
    ['sector-size=4096:/a', { sectorSize: 4096, path: '/a' }],
    ['physical-sector-size=16384:/a', { physicalSectorSize: 16384, path: '/a' }],
    [
      'sector-size=512:share:null:on-error=report:physical-sector-size=512:1M',
      {
        sectorSize: 512,
        share: true,
        onError: 'report',
        physicalSectorSize: 512,
        kind: 'null',
        path: '1048576',
      },
    ],
    ['/srv/on-error=stop:a', { path: '/srv/on-error=stop:a' }],
  ])('%s has an option', (params, target) => {
    expect(parseTarget(params)).toEqual(target);
  });

  test.each([
    ['', /empty/],
    ['aio:', /empty/],
    ['block:', /empty/],
    ['../srv/a', /not an absolute path/],
    ['aio:vg//a', /not an absolute path/],
    ['file:disk.img', /not an absolute path/],
    ['file:../disk.img', /not an absolute path/],
    ['file://host/disk.img', /names a host/],
    ['/srv/a\0b', /NUL/],
    [`/${'a'.repeat(4095)}`, /longer than 4095 bytes/],
    [`/${'ä'.repeat(2048)}`, /longer than 4095 bytes/],
    ['vdi:/srv/a.vdi', /vdi image; of images only qcow2/],
    ['aio:qed:/srv/a', /qed image/],
    ['zfs:tank', /names no volume, such as zfs:tank\/vm1/],
    ['zfs:tank/a/b', /names no volume/],
    ['zfs:tank/../a', /names no volume/],
    ['zfs:/dev/zvol/tank/a', /names no volume/],
    ['zfs:tank/vm1@monday', /names no volume/],
    ['zfs:tank/vm1:new', /names no volume/],
    ['file:zfs:tank/vm1', /is both file and block/],
    ['iscsi:/a', /starts with "iscsi", which is none of/],
    ['on-error=ignore:/a', /asks for "on-error=ignore"; on-error is one of report, stop/],
    ['constructor:/a', /starts with "constructor"/],
    ['constructor=a:/a', /starts with "constructor=a"/],
    [`${'aio:'.repeat(17)}/a`, /too many prefixes/],
    ['nvme:aio:file:/a', /is both nvme and file/],
    ['share=no:/a', /starts with "share=no"/],
    ['sector-size=2048:/a', /"sector-size=2048"; sector-size is 512 or 4096/],
    ['sector-size=:/a', /sector-size is 512 or 4096/],
    ['physical-sector-size=5000:/a', /a power of two from 512 to 1048576/],
    ['physical-sector-size=256:/a', /a power of two/],
    ['physical-sector-size=2097152:/a', /a power of two/],
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

test.each([
  ['', true],
  ['aio:', true],
  ['on-error=stop:block:', true],
  ['null:', false],
  ['/a', false],
  ['aio:vg/a', false],
  ['drbd:', false],
])('%j stands for a drive without a disc: %s', (params, isEmpty) => {
  expect(isEmptyTarget(params)).toBe(isEmpty);
});

test('what a script has its own words for is shown as usual', () => {
  expect(shownSizes('drbd:r0')).toEqual({});
  expect(shownSizes('sector-size=4096:/a')).toMatchObject({ sectorSize: 4096 });
});

describe('a disk that is filled', () => {
  const readFill = (params: string) => {
    const { kind, path } = parseTarget(params);
    return withFill({ kind: kind ?? 'auto', path, readOnly: false }, false).fill;
  };

  test('names its parts, and has defaults', () => {
    expect(readFill('fill:file:/srv/a.img::block:vg/b')).toEqual({
      local: { kind: 'file', path: '/srv/a.img', readOnly: false },
      source: { kind: 'block', path: '/dev/vg/b', readOnly: true },
      mapPath: '',
      chunkBytes: 65536,
      rate: 0,
      lateSource: false,
    });
  });

  test('takes options, in any order', () => {
    const text = 'on-error=stop:fill:map=/var/lib/a.fill:rate=20M:chunk=128K:vg/a::/mnt/b::c.img';
    expect(parseTarget(text)).toMatchObject({ onError: 'stop', kind: 'fill' });
    expect(readFill(text)).toEqual({
      local: { kind: 'auto', path: '/dev/vg/a', readOnly: false },
      source: { kind: 'auto', path: '/mnt/b::c.img', readOnly: true },
      mapPath: '/var/lib/a.fill',
      chunkBytes: 131072,
      rate: 20 * 1024 ** 2,
      lateSource: false,
    });
  });

  test.each([
    ['fill:/srv/a.img', 'does not name a disk and its source'],
    ['fill:::/srv/a.img', 'does not name a disk and its source'],
    ['fill:/srv/a.img::', 'does not name a disk and its source'],
    ['fill:null:1M::/srv/a.img', 'The disk of a fill is "null:1M"'],
    ['fill:/a::fill:/b::/c', 'it can be any target but a fill'],
    ['fill:/a::on-error=stop:/b', 'put them in front of fill:'],
    ['fill:share:/a::/b', 'put them in front of fill:'],
    ['fill:chunk=100K:/a::/b', 'is not a power of two from 16K to 2M'],
    ['fill:chunk=4M:/a::/b', 'is not a power of two from 16K to 2M'],
    ['fill:rate=1:/a::/b', 'at least 1K'],
    ['fill:rate=fast:/a::/b', 'at least 1K'],
    ['fill:map=a.fill:/a::/b', 'is not an absolute path'],
    ['fill:/a::qed:/b', 'qed image'],
    ['fill:qcow2:/a::/b', 'it is one of file, block, nvme'],
  ])('%s is refused', (params, sentence) => {
    expect(() => parseTarget(params)).toThrow(TargetSpecError);
    expect(() => parseTarget(params)).toThrow(sentence);
  });

  test('whatever it says, it is read or refused with a sentence', () => {
    const word = fc.constantFrom(
      'chunk=',
      'rate=',
      'map=',
      '/a',
      '::',
      ':',
      '64K',
      'fill:',
      'null:1',
    );
    fc.assert(
      fc.property(fc.array(word, { maxLength: 12 }), (words) => {
        try {
          readFill(`fill:${words.join('')}`);
        } catch (error) {
          expect(error).toBeInstanceOf(TargetSpecError);
        }
      }),
    );
  });
});
