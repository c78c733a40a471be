// SPDX-License-Identifier: Apache-2.0
// What `zfs` and `zpool` print with -H and -p: lines of fields between tabs, exact numbers. Pure;
// the same in ZFS 2.1 and later ones.

/** Where a property's value is from, as `zfs get` says: "inherited from tank" is 'inherited'. */
export type Source = 'local' | 'received' | 'inherited' | 'default' | 'temporary' | 'none';

export interface PropertyValue {
  value: string;
  source: Source;
}

/** By property; those that a dataset does not have are missing. */
export type Properties = Map<string, PropertyValue>;

/** Throws SyntaxError where a line has not that many fields: half an answer is none. */
export function parseTable(text: string, columns: number): string[][] {
  if (text === '') return [];
  if (!text.endsWith('\n')) throw new SyntaxError('the answer of ZFS ends within a line');
  return text
    .slice(0, -1)
    .split('\n')
    .map((line) => {
      const fields = line.split('\t');
      if (fields.length === columns) return fields;
      throw new SyntaxError(`ZFS answers a line of ${fields.length} fields: ${line.slice(0, 100)}`);
    });
}

/** Of `zfs get -Hp -o name,property,value,source`: datasets in ZFS's order. */
export function parseProperties(text: string): Map<string, Properties> {
  const datasets = new Map<string, Properties>();
  for (const [name = '', property = '', value = '', source = ''] of parseTable(text, 4)) {
    let properties = datasets.get(name);
    if (!properties) {
      properties = new Map();
      datasets.set(name, properties);
    }
    // "-" with source "-": there is no such property there.
    if (value === '-' && source === '-') continue;
    properties.set(property, { value, source: parseSource(source) });
  }
  return datasets;
}

function parseSource(text: string): Source {
  const [word = ''] = text.split(' ');
  return word === '-' ? 'none' : (word as Source);
}

/** An exact number of `-p`; "-" and "none" are undefined. */
export function parseNumber(text: string | undefined): number | undefined {
  if (text === undefined || !/^\d+$/.test(text)) return undefined;
  const number = Number(text);
  return Number.isSafeInteger(number) ? number : undefined;
}
