// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { formatFields, formatTable } from '../../../src/cli/table.ts';
import { formatBytes, formatCount, formatLatency } from '../../../src/cli/units.ts';

describe('formatTable', () => {
  it('lines columns up, numbers on the right, without trailing blanks', () => {
    const columns = [
      { title: 'NAME', value: (row: [string, number]) => row[0] },
      { title: 'N', right: true, value: (row: [string, number]) => String(row[1]) },
      { title: 'LAST', value: () => 'x' },
    ];
    const rows: [string, number][] = [
      ['a', 1],
      ['longer', 1234],
    ];
    expect(formatTable(columns, rows)).toBe(
      ['NAME       N  LAST', 'a          1  x', 'longer  1234  x'].join('\n'),
    );
  });

  it('lets no control character of a guest reach the terminal', () => {
    const column = { title: 'T', value: (row: string) => row };
    expect(formatTable([column], ['a\u001b[2Jb\nc'])).toBe('T\na?[2Jb?c');
    expect(formatFields([['n', '\u009b1m']])).toBe('n: ?1m');
  });

  it('shows the bytes of a name that is no text', () => {
    expect(formatFields([['target', '/d\udce9j']])).toBe('target: /d\\xe9j');
  });
});

describe('units', () => {
  it('formats bytes in binary units', () => {
    expect([0, 512, 1024, 1536, 2 ** 40].map(formatBytes)).toEqual([
      '0 B',
      '512 B',
      '1 KiB',
      '1.5 KiB',
      '1 TiB',
    ]);
  });

  it('formats counts and latencies', () => {
    expect(formatCount(1234567.6)).toBe('1,234,568');
    expect([83, 12_500, 2_500_000].map(formatLatency)).toEqual(['83 µs', '12.5 ms', '2.5 s']);
  });
});
