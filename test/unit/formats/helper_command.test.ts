// SPDX-License-Identifier: Apache-2.0
// The table of what is started: which program, with which arguments.
import { describe, expect, it } from 'vitest';
import { helperCommand, type ImageNode } from '../../../src/formats/helper_command.ts';
import { isImageFormat, parseImagePath } from '../../../src/formats/image_spec.ts';
import { parseTarget } from '../../../src/target/target_spec.ts';

const PLACES = { socket: '/run/r/images/a/nbd.sock', pidFile: '/run/r/images/a/pid' };

function commandOf(target: string, nodes: readonly ImageNode[] = [], readOnly = false) {
  const { kind = '', path } = parseTarget(target);
  if (!isImageFormat(kind)) throw new Error(`${target} is no image`);
  return helperCommand(parseImagePath(kind, path), nodes, readOnly, PLACES);
}

function blockdevOf(target: string, nodes: readonly ImageNode[] = [], readOnly = false) {
  const { args } = commandOf(target, nodes, readOnly);
  return JSON.parse(args[args.indexOf('--blockdev') + 1] ?? '');
}

const node = (format: string, path: string, isDevice = false) => ({ format, path, isDevice });
const file = (filename: string) => ({ driver: 'file', filename });

describe('qemu-storage-daemon', () => {
  it('is told where to serve, and what', () => {
    const { program, args } = commandOf('qcow2:/srv/a', [node('qcow2', '/srv/a')]);
    expect(program).toBe('qemu-storage-daemon');
    expect(args.filter((_, index) => index % 2 === 0)).toEqual([
      '--blockdev',
      '--nbd-server',
      '--export',
      '--pidfile',
    ]);
    expect(JSON.parse(args[3] ?? '')).toEqual({
      addr: { type: 'unix', path: PLACES.socket },
      'max-connections': 256,
    });
    expect(JSON.parse(args[5] ?? '')).toEqual({
      type: 'nbd',
      id: 'disk',
      'node-name': 'disk',
      name: 'disk',
      writable: true,
      writethrough: true,
    });
    expect(args[7]).toBe(PLACES.pidFile);
  });

  it.each([
    [
      'qcow2:/srv/a',
      [node('qcow2', '/srv/a')],
      { driver: 'qcow2', discard: 'unmap', file: file('/srv/a'), backing: null },
    ],
    [
      'vhd:/srv/a',
      [node('vpc', '/srv/a')],
      { driver: 'vpc', discard: 'unmap', file: file('/srv/a') },
    ],
    [
      'vhdx:/srv/a',
      [node('vhdx', '/srv/a')],
      { driver: 'vhdx', discard: 'unmap', file: file('/srv/a') },
    ],
    [
      'qcow2:/dev/vg/a',
      [node('qcow2', '/dev/vg/a', true)],
      {
        driver: 'qcow2',
        discard: 'unmap',
        file: { driver: 'host_device', filename: '/dev/vg/a' },
        backing: null,
      },
    ],
    [
      'qcow2:l2-cache-size=8M:l2-cache-entry-size=8K:cache.direct=on:' +
        'cache.no-flush=on:aio=native:discard=ignore:detect-zeroes=on:' +
        'lazy-refcounts=off:cache-clean-interval=60:/srv/a',
      [node('qcow2', '/srv/a')],
      {
        driver: 'qcow2',
        discard: 'ignore',
        'detect-zeroes': 'on',
        'l2-cache-size': 8388608,
        'l2-cache-entry-size': 8192,
        'cache-clean-interval': 60,
        'lazy-refcounts': false,
        cache: { direct: true, 'no-flush': true },
        file: { ...file('/srv/a'), aio: 'native', cache: { direct: true, 'no-flush': true } },
        backing: null,
      },
    ],
    [
      'rbd:user=admin:conf=/etc/ceph/b.conf:pool/space/image@snap',
      [],
      {
        driver: 'raw',
        discard: 'unmap',
        file: {
          driver: 'rbd',
          pool: 'pool',
          namespace: 'space',
          image: 'image',
          snapshot: 'snap',
          user: 'admin',
          conf: '/etc/ceph/b.conf',
          cache: { direct: true },
        },
      },
    ],
    [
      'rbd:cache.writeback=on:pool/image',
      [],
      { driver: 'raw', discard: 'unmap', file: { driver: 'rbd', pool: 'pool', image: 'image' } },
    ],
  ])('%s', (target, nodes, expected) => {
    const common = { 'node-name': 'disk', 'read-only': false };
    expect(blockdevOf(target, nodes)).toEqual({ ...common, ...expected });
  });

  it('is told the whole chain, which nobody may write to but at its top', () => {
    const nodes = [node('qcow2', '/c'), node('qcow2', '/b'), node('raw', '/dev/a', true)];
    const { backing } = blockdevOf('qcow2:cache.direct=on:/c', nodes);
    const direct = { cache: { direct: true } };
    expect(backing).toEqual({
      driver: 'qcow2',
      'read-only': true,
      ...direct,
      file: { ...file('/b'), 'read-only': true, ...direct },
      backing: {
        driver: 'raw',
        'read-only': true,
        ...direct,
        file: { driver: 'host_device', filename: '/dev/a', 'read-only': true, ...direct },
      },
    });
  });

  it.each([
    ['qcow2:/srv/a', true],
    ['qcow2:cache.writeback=on:/srv/a', undefined],
    ['vhdx:/srv/a', undefined],
    ['vhdx:cache.writeback=off:/srv/a', true],
  ])('flushes after each write where it would keep something back: %s', (target, writethrough) => {
    const format = target.startsWith('qcow2') ? 'qcow2' : 'vhdx';
    const { args } = commandOf(target, [node(format, '/srv/a')]);
    const exported = JSON.parse(args[5] ?? '');
    expect(exported).toMatchObject({ writable: true });
    expect(exported.writethrough).toBe(writethrough);
    expect(args[1]).not.toMatch(/writeback/);
  });

  it('writes nothing for a reader', () => {
    const nodes = [node('qcow2', '/srv/a')];
    const { args } = commandOf('qcow2:/srv/a', nodes, true);
    expect(blockdevOf('qcow2:/srv/a', nodes, true)).toMatchObject({ 'read-only': true });
    expect(JSON.parse(args[5] ?? '')).toMatchObject({ writable: false });
  });

  it.each([
    '/srv/a,driver=raw',
    '/srv/-a b',
    '/srv/"},"x":{"',
    '/srv/a\nb',
    '/srv/json:{}',
    '/nbd:x',
  ])('takes %j for a name and nothing else', (path) => {
    const nodes = [node('qcow2', path)];
    expect(blockdevOf(`qcow2:${path}`, nodes)).toEqual({
      driver: 'qcow2',
      'node-name': 'disk',
      'read-only': false,
      discard: 'unmap',
      file: file(path),
      backing: null,
    });
    expect(commandOf(`qcow2:${path}`, nodes).args).toHaveLength(8);
  });
});

describe('nbdkit', () => {
  const usual = [
    '--foreground',
    '--readonly',
    '--unix',
    PLACES.socket,
    '--pidfile',
    PLACES.pidFile,
  ];

  it.each([
    ['https://host/a', ['url=https://host/a', 'protocols=https', 'timeout=30']],
    [
      'timeout=5:sslverify=off:cainfo=/etc/a.pem:https://host:1/a?b=c&d',
      [
        'url=https://host:1/a?b=c&d',
        'protocols=https',
        'timeout=5',
        'sslverify=false',
        'cainfo=/etc/a.pem',
      ],
    ],
    ['https://host/--run=x', ['url=https://host/--run=x', 'protocols=https', 'timeout=30']],
  ])('%s', (target, args) => {
    expect(commandOf(target)).toEqual({
      program: 'nbdkit',
      package: 'nbdkit',
      args: [...usual, 'curl', ...args],
    });
  });
});
