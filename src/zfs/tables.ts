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
  refuseHalf(text);
  return text
    .slice(0, -1)
    .split('\n')
    .map((line) => {
      const fields = line.split('\t');
      if (fields.length === columns) return fields;
      throw oddLine(line);
    });
}

function refuseHalf(text: string): void {
  if (text !== '' && !text.endsWith('\n')) {
    throw new SyntaxError('the answer of ZFS ends within a line');
  }
}

function oddLine(line: string): SyntaxError {
  const fields = line.split('\t').length;
  return new SyntaxError(`ZFS answers a line of ${fields} fields: ${line.slice(0, 100)}`);
}

/**
 * Of `zfs get -Hp -o name,property,value,source`: datasets in ZFS's order. Throws SyntaxError as
 * parseTable(). A large SR is a quarter of a million lines, and XAPI waits: so nothing is cut out
 * of the text that is not kept.
 */
export function parseProperties(text: string): Map<string, Properties> {
  const datasets = new Map<string, Properties>();
  refuseHalf(text);
  let name = '';
  let properties: Properties = new Map();
  for (let start = 0; start < text.length; ) {
    const end = text.indexOf('\n', start);
    const [afterName, afterProperty, afterValue] = tabsIn(text, start, end);
    if (start === 0 || !isAt(text, start, afterName, name)) {
      name = text.slice(start, afterName);
      properties = datasets.get(name) ?? new Map();
      datasets.set(name, properties);
    }
    const value = text.slice(afterProperty + 1, afterValue);
    const source = SOURCES[text[afterValue + 1] ?? ''];
    if (source === undefined) throw oddLine(text.slice(start, end));
    // "-" with source "-": there is no such property there.
    if (source !== 'none' || value !== '-') {
      properties.set(text.slice(afterName + 1, afterProperty), { value, source });
    }
    start = end + 1;
  }
  return datasets;
}

/** By its first letter: "inherited from tank" has more words, and no two begin alike. */
const SOURCES: Readonly<Record<string, Source>> = {
  l: 'local',
  r: 'received',
  i: 'inherited',
  d: 'default',
  t: 'temporary',
  '-': 'none',
};

function tabsIn(text: string, start: number, end: number): [number, number, number] {
  const first = text.indexOf('\t', start);
  const second = text.indexOf('\t', first + 1);
  const third = text.indexOf('\t', second + 1);
  const isWhole = first >= 0 && second > first && third > second && third < end;
  const fourth = isWhole ? text.indexOf('\t', third + 1) : 0;
  if (!isWhole || (fourth >= 0 && fourth < end)) throw oddLine(text.slice(start, end));
  return [first, second, third];
}

function isAt(text: string, start: number, end: number, name: string): boolean {
  return end - start === name.length && text.startsWith(name, start);
}

/** An exact number of `-p`; "-" and "none" are undefined. */
export function parseNumber(text: string | undefined): number | undefined {
  if (text === undefined || !/^\d+$/.test(text)) return undefined;
  const number = Number(text);
  return Number.isSafeInteger(number) ? number : undefined;
}
