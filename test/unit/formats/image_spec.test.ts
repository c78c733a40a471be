// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TargetSpecError } from '../../../src/errors.ts';
import {
  type ImageFormat,
  imagePath,
  isImageFormat,
  makeImageSpec,
  parseImagePath,
} from '../../../src/formats/image_spec.ts';
import { parseTarget } from '../../../src/target/target_spec.ts';

const path = (params: string) => {
  const { kind, path: text } = parseTarget(params);
  return `${kind} ${text}`;
};

describe('a target that is an image', () => {
  it.each([
    ['qcow2:/srv/a.qcow2', 'qcow2 /srv/a.qcow2'],
    ['aio:qcow2:/srv/a.qcow2', 'qcow2 /srv/a.qcow2'],
    // What libxl makes of format=vhd,backendtype=tap.
    ['vhd:/srv/a.vhd', 'vhd /srv/a.vhd'],
    ['VHDX:/srv/a.vhdx', 'vhdx /srv/a.vhdx'],
    ['vmdk:/srv/a.vmdk', 'vmdk /srv/a.vmdk'],
    ['rbd:pool/image', 'rbd pool/image'],
    ['rbd:pool/space/image@snap', 'rbd pool/space/image@snap'],
    ['https://host/a.img', 'https https://host/a.img'],
    ['https://host:8443/a%20b.img?x=1:2', 'https https://host:8443/a%20b.img?x=1:2'],
    // Options are prefixes as all others: nothing that xl would split.
    [
      'qcow2:l2-cache-size=8M:cache.direct=on:/srv/a',
      'qcow2 cache.direct=on:l2-cache-size=8M:/srv/a',
    ],
    [
      'l2-cache-size=8192K:qcow2:cache.direct=on:/srv/a',
      'qcow2 cache.direct=on:l2-cache-size=8M:/srv/a',
    ],
    ['qcow2:L2-CACHE-SIZE=3145728:/srv/a', 'qcow2 l2-cache-size=3M:/srv/a'],
    ['qcow2:l2-cache-size=6400K:/srv/a', 'qcow2 l2-cache-size=6400K:/srv/a'],
    [
      'user=Admin:rbd:conf=/etc/ceph/a.conf:pool/image',
      'rbd conf=/etc/ceph/a.conf:user=Admin:pool/image',
    ],
    ['cainfo=/etc/a.pem:https://host/a', 'https cainfo=/etc/a.pem:https://host/a'],
    ['on-error=stop:qcow2:backing=none:/srv/a', 'qcow2 backing=none:/srv/a'],
    ['qcow2:/srv/-a b,c:[x]&"\n\'$(x)', 'qcow2 /srv/-a b,c:[x]&"\n\'$(x)'],
  ])('%s', (params, expected) => {
    expect(path(params)).toBe(expected);
  });

  it.each([
    ['qcow2:vg/lv', /does not end in an absolute path/],
    ['qcow2:', /empty/],
    ['qcow:/srv/a', /qcow image; of images only qcow2, /],
    ['l2-cache-size=8M:/srv/a', /has the option l2-cache-size, which is for images/],
    ['vhd:l2-cache-size=8M:/srv/a', /"l2-cache-size=8M" is for qcow2, not for vhd/],
    ['qcow2:l2-cache-size=0:/srv/a', /l2-cache-size is a size/],
    ['qcow2:l2-cache-size=8M,x=y:/srv/a', /l2-cache-size is a size/],
    ['qcow2:cache.direct=yes:/srv/a', /cache.direct is one of on, off/],
    ['qcow2:backing=/etc/shadow:/srv/a', /does not end in an absolute path/],
    ['qcow2:backing=yes:/srv/a', /backing is one of none/],
    ['qcow2:discard=yes:/srv/a', /discard is one of unmap, ignore/],
    ['qcow2:timeout=3:/srv/a', /is for https, not for qcow2/],
    ['qcow2:constructor=3:/srv/a', /starts with "constructor=3"/],
    ['qcow2:vhd:/srv/a', /both qcow2 and vhd/],
    ['qcow2:/srv/d\udce9j', /not UTF-8/],
    ['rbd:pool', /not POOL\/IMAGE/],
    ['rbd:pool/image@a@b', /not POOL\/IMAGE/],
    ['rbd:user=--help:pool/image', /user is a name/],
    ['https:/srv/a', /no https:\/\/HOST\/PATH/],
    ['https://user:secret@host/a', /a user or a password/],
    ['https://host/a b', /no https/],
  ])('%s is refused', (params, message) => {
    expect(() => parseTarget(params)).toThrow(TargetSpecError);
    expect(() => parseTarget(params)).toThrow(message);
  });

  it('any text is refused with a sentence, or comes back as it was', () => {
    const formats = fc.constantFrom<ImageFormat>('qcow2', 'vhd', 'vhdx', 'vmdk');
    const option = fc.constantFrom(
      'l2-cache-size=8M:',
      'cache.direct=on:',
      'backing=none:',
      'aio=:',
    );
    fc.assert(
      fc.property(
        formats,
        fc.array(option, { maxLength: 3 }),
        fc.string(),
        (format, options, name) => {
          let parsed: ReturnType<typeof parseTarget>;
          try {
            parsed = parseTarget(`${format}:${options.join('')}/${name}`);
          } catch (error) {
            expect(error).toBeInstanceOf(TargetSpecError);
            return;
          }
          const { kind = '' } = parsed;
          if (!isImageFormat(kind)) throw new Error(`${kind} is no format`);
          const spec = parseImagePath(kind, parsed.path);
          expect(spec.location).toBe(`/${name}`.replace(/^\/+/, '/'));
          expect(imagePath(spec)).toBe(parsed.path);
        },
      ),
    );
  });

  it('a path that looks like an option is one only where it stands first', () => {
    const spec = makeImageSpec('qcow2', {}, '/srv/cache.direct=on:a');
    expect(parseImagePath('qcow2', imagePath(spec))).toEqual(spec);
  });
});
