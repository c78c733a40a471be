// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { parseNumber, parseProperties, parseTable } from '../../../src/zfs/tables.ts';

describe('lines of zfs and zpool', () => {
  it('are fields between tabs, all of them', () => {
    expect(parseTable('tank\t1\t-\nb c\t\t2\n', 3)).toEqual([
      ['tank', '1', '-'],
      ['b c', '', '2'],
    ]);
    expect(parseTable('', 3)).toEqual([]);
  });

  it('that are cut off are no answer', () => {
    expect(() => parseTable('tank\t1', 2)).toThrow(/ends within a line/);
    expect(() => parseTable('tank\n', 2)).toThrow(/a line of 1 fields/);
  });

  it('of zfs get tell what is whose', () => {
    const text =
      'tank/a\tvolsize\t1024\tlocal\ntank/a\torigin\t-\t-\ntank/a\tringdisk:name\t-\tlocal\n' +
      'tank/a@s\tringdisk:name\tx\tinherited from tank/a\ntank/a@s\ttype\tsnapshot\t-\n' +
      'tank/a\tcompression\tlz4\treceived\n';
    const datasets = parseProperties(text);
    expect([...datasets.keys()]).toEqual(['tank/a', 'tank/a@s']);
    expect(Object.fromEntries(datasets.get('tank/a') ?? [])).toEqual({
      volsize: { value: '1024', source: 'local' },
      'ringdisk:name': { value: '-', source: 'local' },
      compression: { value: 'lz4', source: 'received' },
    });
    expect(Object.fromEntries(datasets.get('tank/a@s') ?? [])).toEqual({
      'ringdisk:name': { value: 'x', source: 'inherited' },
      type: { value: 'snapshot', source: 'none' },
    });
  });

  it('have numbers that are exact, or none', () => {
    expect(['12', '-', 'none', '1.5', '99999999999999999999', undefined].map(parseNumber)).toEqual([
      12,
      undefined,
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
  });
});
