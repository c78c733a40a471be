// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SendStream } from '../../../src/zfs/send_stream.ts';

interface Parts {
  u32?: [at: number, value: number][];
  u64?: [at: number, value: bigint][];
  u8?: [at: number, value: number][];
  data?: number;
}

function record(type: number, { u32 = [], u64 = [], u8 = [], data = 0 }: Parts): Buffer {
  const bytes = Buffer.alloc(312 + data, 0xee);
  bytes.fill(0, 0, 312);
  bytes.writeUInt32LE(type, 0);
  for (const [at, value] of u32) bytes.writeUInt32LE(value, at);
  for (const [at, value] of u64) bytes.writeBigUInt64LE(value, at);
  for (const [at, value] of u8) bytes.writeUInt8(value, at);
  return bytes;
}

const begin = record(0, { u32: [[4, 40]], u64: [[8, 0x2f5bacbacn]], data: 40 });
const write = (object: bigint, offset: bigint, length: bigint) =>
  record(3, {
    u64: [
      [8, object],
      [24, offset],
      [32, length],
    ],
    data: Number(length),
  });
const compressed = record(3, {
  u64: [
    [8, 1n],
    [24, 65536n],
    [32, 16384n],
    [96, 512n],
  ],
  u8: [[50, 15]],
  data: 512,
});
const free = record(4, {
  u64: [
    [8, 1n],
    [16, 131072n],
    [24, 0xffffffffffffffffn],
  ],
});
const freed = record(4, {
  u64: [
    [8, 1n],
    [16, 262144n],
    [24, 32768n],
  ],
});
const embedded = record(8, {
  u64: [
    [8, 1n],
    [16, 32768n],
    [24, 16384n],
  ],
  u32: [[52, 13]],
  data: 16,
});
const object = record(1, { u32: [[28, 20]], u64: [[8, 1n]], data: 24 });
const end = record(5, {});
const all = Buffer.concat([
  begin,
  object,
  write(1n, 0n, 16384n),
  write(2n, 0n, 512n),
  compressed,
  embedded,
  free,
  freed,
  end,
]);
const changes = [
  [0, 16384],
  [65536, 16384],
  [32768, 16384],
  [262144, 32768],
];

function read(parts: Buffer[]) {
  const seen: unknown[] = [];
  const stream = new SendStream((offset, length) => seen.push([offset, length]));
  for (const part of parts) stream.push(part);
  return { seen, ended: stream.ended };
}

describe('a stream of zfs send', () => {
  it('tells the changes of the data alone', () => {
    expect(read([all])).toEqual({ seen: changes, ended: true });
  });

  it('may come in any pieces', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(all.length), { maxLength: 20 }), (cuts) => {
        const at = [0, ...cuts.sort((a, b) => a - b), all.length];
        const parts = at.slice(1).map((to, i) => all.subarray(at[i], to));
        expect(read(parts)).toEqual({ seen: changes, ended: true });
      }),
    );
  });

  it('that is cut off has no end', () => {
    expect(read([all.subarray(0, -1)]).ended).toBe(false);
  });

  it('of another kind is refused', () => {
    expect(() => read([Buffer.alloc(312)])).toThrow(/no stream of zfs send/);
    expect(() => read([begin, record(77, {})])).toThrow(/type 77/);
  });
});
