// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  BACKEND_NODES,
  FRONTEND_NODES,
  type NodeSpec,
  queueFolder,
  ringRefNode,
  TOOLSTACK_NODES,
} from '../../../src/blkif/features.ts';

const tables = { TOOLSTACK_NODES, BACKEND_NODES, FRONTEND_NODES };
const all = Object.entries(tables).flatMap(([table, specs]) =>
  Object.entries(specs).map(([key, spec]): [string, NodeSpec<unknown>] => [
    `${table}.${key}`,
    spec as NodeSpec<unknown>,
  ]),
);

describe('the table', () => {
  test('names each node once per directory', () => {
    for (const specs of Object.values(tables)) {
      const names = Object.values(specs).map((spec) => spec.node);
      expect(new Set(names).size).toBe(names.length);
    }
  });

  test.each(all)('%s says who, what and where', (_name, spec) => {
    expect(spec.node).toMatch(/^(sm-data\/)?[a-z0-9-]+$/);
    expect(spec.meaning).not.toBe('');
    expect(spec.type.expects).not.toBe('');
    expect(spec.directory).toBe(spec.writer === 'frontend' ? 'frontend' : 'backend');
  });

  test.each(all)('%s: a default is a value of the type', (_name, spec) => {
    if (spec.absent === undefined || spec.absent === 'native') return;
    expect(spec.type.parse(spec.type.format(spec.absent))).toEqual(spec.absent);
  });

  test.each(all)('%s: any text is taken or refused, and what is taken survives', (_name, spec) => {
    const texts = fc.oneof(fc.string({ unit: 'binary' }), fc.integer().map(String), fc.string());
    fc.assert(
      fc.property(texts, (text) => {
        const value = spec.type.parse(text);
        if (value !== undefined) expect(spec.type.parse(spec.type.format(value))).toEqual(value);
      }),
    );
  });
});

describe('numbers', () => {
  const numeric = [
    [FRONTEND_NODES.ringPageOrder, ['0', '4'], ['5', '-1']],
    [FRONTEND_NODES.ringPages, ['1', '16'], ['0', '17']],
    [FRONTEND_NODES.queues, ['1', '64'], ['0', '65']],
    [FRONTEND_NODES.ringRef, ['0', '4294967295'], ['4294967296']],
    [FRONTEND_NODES.eventChannel, ['1', '131071'], ['0', '131072']],
  ] as const;

  test.each(numeric)('$node: its range', (spec, good, bad) => {
    for (const text of good) expect(spec.type.parse(text)).toBe(Number(text));
    for (const text of bad) expect(spec.type.parse(text)).toBeUndefined();
  });

  test.each(numeric)('$node: nothing but decimal digits', (spec) => {
    for (const text of ['', ' ', '1 ', ' 1', '+1', '1.', '1e0', '0x1', '01', '1\0', '1\n', 'one']) {
      expect(spec.type.parse(text)).toBeUndefined();
    }
    expect(spec.type.parse('9'.repeat(4000))).toBeUndefined();
  });
});

describe('words and flags', () => {
  test('modes as xl and its scripts write them', () => {
    const { parse } = TOOLSTACK_NODES.mode.type;
    expect(['r', 'r!', 'ro'].map(parse)).toEqual(['r', 'r!', 'r']);
    expect(['w', 'w!', 'rw'].map(parse)).toEqual(['w', 'w!', 'w']);
    expect(['', 'x', 'R', 'wr'].map(parse)).toEqual([undefined, undefined, undefined, undefined]);
  });

  test('protocols of this architecture', () => {
    const { parse } = FRONTEND_NODES.protocol.type;
    expect(parse('x86_64-abi')).toBe('x86_64');
    expect(parse('x86_32-abi')).toBe('x86_32');
    expect(parse('arm-abi')).toBeUndefined();
    expect(parse('constructor')).toBeUndefined();
    expect(FRONTEND_NODES.protocol.absent).toBe('native');
  });

  test('flags are 0 or 1, and no property of an object', () => {
    const { parse } = FRONTEND_NODES.persistent.type;
    expect([parse('0'), parse('1')]).toEqual([false, true]);
    for (const text of ['', '2', 'yes', 'true', 'toString', '__proto__', 'constructor']) {
      expect(parse(text)).toBeUndefined();
    }
  });

  test('the path of the frontend is a path', () => {
    const { parse } = TOOLSTACK_NODES.frontend.type;
    expect(parse('/local/domain/7/device/vbd/51712')).toBeDefined();
    for (const text of ['', '/', 'a/b', '/a/', '//a', '/a b', '/a\0', `/${'a'.repeat(3072)}`]) {
      expect(parse(text)).toBeUndefined();
    }
  });
});

test('folders and numbered nodes', () => {
  expect(queueFolder(3)).toBe('queue-3');
  expect(ringRefNode(15)).toBe('ring-ref15');
});
