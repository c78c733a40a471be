// SPDX-License-Identifier: Apache-2.0
// What a header may name. The rest of it is in test/integration/image_helper.test.ts, with images.
import { describe, expect, it } from 'vitest';
import { baseOf, extentsOf } from '../../../src/formats/chain.ts';

const header = (file: string, format?: string) => ({
  'backing-filename': file,
  'full-backing-filename': file,
  ...(format !== undefined && { 'backing-filename-format': format }),
});

describe('what an image is based on', () => {
  it.each(['raw', 'qcow2', 'vmdk', 'vpc'])('may be %s', (format) => {
    expect(baseOf(header('/srv/base', format), '/srv/a')).toEqual({
      driver: format,
      file: '/srv/base',
    });
  });

  it('may be nothing', () => {
    expect(baseOf({}, '/srv/a')).toBeUndefined();
  });

  it.each([
    ['/srv/base', undefined, /does not say in which format/],
    ['/srv/base', 'blkdebug', /in the format "blkdebug"/],
    ['/srv/base', 'luks', /in the format "luks"/],
    ['nbd://host/disk', 'raw', /no file of this host/],
    ['json:{"driver":"ssh"}', 'qcow2', /no file of this host/],
    ['file:/etc/shadow', 'raw', /no file of this host/],
    ['host_device:/dev/sda', 'raw', /no file of this host/],
  ])('is not %s as %s', (file, format, message) => {
    expect(() => baseOf(header(file, format), '/srv/a')).toThrow(message);
  });
});

describe('files with an image’s data', () => {
  const specific = (data: object) => ({ 'format-specific': { data } });
  const extents = (...names: string[]) =>
    specific({ extents: names.map((filename) => ({ filename })) });

  it('are beside it', () => {
    expect(extentsOf(extents('/srv/a', '/srv/a-s001', 'a-s002'), '/srv/a')).toEqual([
      '/srv/a-s001',
      '/srv/a-s002',
    ]);
  });

  it.each(['/etc/shadow', '../b', 'x/b', 'nbd:localhost:1', 'nbd://h/x'])('are not %s', (name) => {
    expect(() => extentsOf(extents('/srv/a', name), '/srv/a')).toThrow(/not beside it/);
  });

  it('are not taken from elsewhere for qcow2', () => {
    const data = specific({ 'data-file': '/etc/shadow' });
    expect(() => extentsOf(data, '/srv/a')).toThrow(/keeps its data in "\/etc\/shadow"/);
  });
});
