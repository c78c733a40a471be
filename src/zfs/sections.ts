// SPDX-License-Identifier: Apache-2.0
// "  status: One or more devices ..." and the like: how `zpool status` and `zpool import` are laid
// out, in all versions. Pure.

const HEADS = [
  ...['pool', 'id', 'state', 'status', 'action', 'see', 'scan', 'comment', 'config', 'errors'],
  ...['remove', 'checkpoint', 'expand', 'dedup'],
];
const HEAD = new RegExp(`^ {0,10}(${HEADS.join('|')}):(?: (.*)|$)`);

export interface Sections {
  /** By head: its text, the lines that go on joined by blanks. */
  texts: Map<string, string>;
  /** Below `config:`, each with its indentation, tabs not counted. */
  config: { indent: number; words: string[] }[];
}

/** One pool's lines. */
export function parseSections(lines: readonly string[]): Sections {
  const texts = new Map<string, string>();
  const config: Sections['config'] = [];
  let head = '';
  for (const line of lines) {
    const [, name, text] = HEAD.exec(line) ?? [];
    if (name !== undefined) {
      head = name;
      texts.set(head, text ?? '');
    } else if (head === 'config' && line.trim() !== '') config.push(configLine(line));
    else if (head !== '' && line.trim() !== '') {
      texts.set(head, `${texts.get(head)} ${line.trim()}`.trim());
    }
  }
  return { texts, config };
}

function configLine(line: string): { indent: number; words: string[] } {
  const rest = line.replace(/^\t/, '');
  return { indent: rest.length - rest.trimStart().length, words: rest.trim().split(/\s+/) };
}

/** One list of lines for each pool. */
export function splitPools(text: string): string[][] {
  const pools: string[][] = [];
  for (const line of text.split('\n')) {
    if (/^\s*pool: /.test(line)) pools.push([]);
    pools.at(-1)?.push(line);
  }
  return pools;
}
