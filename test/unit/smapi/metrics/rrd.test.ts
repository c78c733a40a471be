// SPDX-License-Identifier: Apache-2.0
// The file that rrdd reads, against a reader of its own.
import { mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { untilSample } from '../../../../src/smapi/metrics/metrics.ts';
import { RrdFile } from '../../../../src/smapi/metrics/rrd_file.ts';
import { type DataSource, encodeRrd } from '../../../../src/smapi/metrics/rrd_format.ts';
import { readRrd } from '../../../support/rrdd.ts';
import { temporaryFolder } from '../../../support/temporary_folder.ts';

const VM_1 = 'vm 6b1e3c1e-0000-4000-8000-000000000001';
const VM_2 = 'vm 6b1e3c1e-0000-4000-8000-000000000002';
const SOURCES: DataSource[] = [
  source('host', 'iops_read_5c1f0a2b', 'int64', 7),
  source(VM_1, 'vbd_xvda_latency', 'float', 12.25),
  source(VM_2, 'vbd_xvda_latency', 'float', 0.5),
  { ...source('host', 'read_latency_5c1f0a2b', 'int64', 2 ** 40), units: 'μs' },
];

function source(
  owner: DataSource['owner'],
  name: string,
  valueType: DataSource['valueType'],
  value: number,
): DataSource {
  return { owner, name, valueType, value, description: 'a "word"', units: 's', type: 'gauge' };
}

describe('the format', () => {
  test('is read as it was meant, two owners’ sources of one name too', () => {
    const { timestamp, sources } = readRrd(encodeRrd(SOURCES, 1_796_000_000.25));
    expect(timestamp).toBe(1_796_000_000.25);
    const told = sources.map(({ owner, name, value }) => [owner, name, value]);
    expect(told).toEqual(SOURCES.map(({ owner, name, value }) => [owner, name, value]));
    expect(sources[3]).toMatchObject({ units: 'μs', type: 'gauge', value_type: 'int64' });
  });

  test('begins byte by byte as it is written down', () => {
    const content = encodeRrd(SOURCES.slice(0, 1), 1);
    expect(content.subarray(0, 11).toString()).toBe('DATASOURCES');
    expect(content.subarray(19, 31).toString('hex')).toBe('000000013ff0000000000000');
    expect(content.subarray(31, 39).toString('hex')).toBe('0000000000000007');
    expect(content.subarray(43, 58).toString()).toBe('{"datasources":');
    expect(content.readUInt32BE(39)).toBe(content.length - 43);
  });

  test('with nothing in it is one too', () => {
    expect(readRrd(encodeRrd([], 3)).sources).toEqual([]);
  });

  test('is refused where a bit is wrong, so that this test reads what rrdd reads', () => {
    const content = encodeRrd(SOURCES, 5);
    for (const at of [0, 12, 16, 33, content.length - 5]) {
      const broken = Buffer.from(content);
      broken[at] = (broken[at] ?? 0) ^ 1;
      expect(() => readRrd(broken)).toThrow(/rrdd refuses it/);
    }
  });
});

describe('the file', () => {
  const place = (folder: string) => path.join(folder, 'metrics', 'ringdisk');
  const make = () => {
    const folder = temporaryFolder();
    return { folder, file: new RrdFile(path.join(folder, 'metrics'), 'ringdisk') };
  };

  test('stays the same file of the same size, whatever is written', () => {
    const { folder, file } = make();
    file.write(encodeRrd(SOURCES, 1));
    const first = statSync(place(folder));
    file.write(encodeRrd([...SOURCES, ...SOURCES, ...SOURCES], 2));
    file.write(encodeRrd([], 3));
    const last = statSync(place(folder));
    expect([last.ino, last.size, last.mode & 0o777]).toEqual([first.ino, first.size, 0o600]);
    expect(readRrd(readFileSync(place(folder)).subarray(0, 65536)).timestamp).toBe(3);
    // On tmpfs that is memory: only what was written takes any.
    expect(last.blocks * 512).toBeLessThan(65536);
  });

  test('that has gone, or whose place another has, is made anew', () => {
    const { folder, file } = make();
    file.write(encodeRrd(SOURCES, 1));
    file.remove();
    expect(statSync(place(folder), { throwIfNoEntry: false })).toBeUndefined();
    file.write(encodeRrd(SOURCES, 2));
    renameSync(place(folder), `${place(folder)}.away`);
    writeFileSync(place(folder), 'somebody else’s');
    file.write(encodeRrd(SOURCES, 4));
    expect(readRrd(readFileSync(place(folder)).subarray(0, 65536)).timestamp).toBe(4);
  });

  test('that cannot be made says so, and leaves nothing', () => {
    const { folder, file } = make();
    mkdirSync(path.join(place(folder), 'in the way'), { recursive: true });
    expect(() => file.write(encodeRrd(SOURCES, 1))).toThrow();
    expect(statSync(`${place(folder)}.tmp`, { throwIfNoEntry: false })).toBeUndefined();
  });
});

test.each([
  ['soon after a reading', 4900, 4400],
  ['shortly before one: for the one after it', 500, 5000],
  ['when it is late', -2000, 2500],
  ['when it hangs', -60_000, 5000],
  ['with another clock', 90_000, 5000],
])('a sample is taken half a second before rrdd reads: %s', (_, ms, wait) => {
  expect(untilSample(ms)).toBe(wait);
});
