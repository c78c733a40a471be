// SPDX-License-Identifier: Apache-2.0
// `zpool status -pP` of one pool, as a tree. Pure.
import { parseSections, type Sections, splitPools } from './sections.ts';

export interface VdevNode {
  name: string;
  kind: string;
  state: string;
  readErrors: number;
  writeErrors: number;
  checksumErrors: number;
  note?: string;
  children: VdevNode[];
}

export type VdevRole = 'data' | 'log' | 'cache' | 'special' | 'spare';

export interface StatusReport {
  pool: string;
  state: string;
  status?: string;
  action?: string;
  scan?: string;
  /** 0 to 1, while one runs. */
  scanProgress?: number;
  errors: string;
  vdevs: Record<VdevRole, VdevNode[]>;
}

/** Headings between the groups; dedup is a special of its own. */
const HEADINGS: Record<string, VdevRole> = {
  logs: 'log',
  cache: 'cache',
  special: 'special',
  dedup: 'special',
  spares: 'spare',
};

/** Throws SyntaxError where it is no status of a pool. */
export function parseStatus(text: string): StatusReport {
  const [lines] = splitPools(text);
  if (!lines) throw new SyntaxError('zpool status says nothing of a pool');
  const { texts, config } = parseSections(lines);
  const [status, action, scan] = ['status', 'action', 'scan'].map((head) => texts.get(head));
  const progress = scan === undefined ? undefined : scanProgress(scan);
  return {
    pool: texts.get('pool') ?? '',
    state: texts.get('state') ?? '',
    ...(status && { status }),
    ...(action && { action }),
    ...(scan && { scan }),
    ...(progress !== undefined && { scanProgress: progress }),
    errors: texts.get('errors') ?? '',
    vdevs: parseVdevs(config),
  };
}

function scanProgress(scan: string): number | undefined {
  if (!/in progress/.test(scan)) return undefined;
  const [, percent] = /([\d.]+)% done/.exec(scan) ?? [];
  return percent === undefined ? 0 : Number(percent) / 100;
}

function parseVdevs(config: Sections['config']): StatusReport['vdevs'] {
  const vdevs: StatusReport['vdevs'] = { data: [], log: [], cache: [], special: [], spare: [] };
  let role: VdevRole = 'data';
  let path: { indent: number; children: VdevNode[] }[] = [];
  // Its first lines are the titles and the pool itself.
  for (const { indent, words } of config.slice(2)) {
    const heading = indent === 0 && words.length === 1 ? HEADINGS[words[0] ?? ''] : undefined;
    if (heading) {
      role = heading;
      path = [];
      continue;
    }
    while (path.length > 0 && (path.at(-1)?.indent ?? 0) >= indent) path.pop();
    const node = toNode(words);
    (path.at(-1)?.children ?? vdevs[role]).push(node);
    path.push({ indent, children: node.children });
  }
  return vdevs;
}

function toNode(words: string[]): VdevNode {
  const [name = '', state = '', read, write, checksum, ...note] = words;
  const hasCounts = [read, write, checksum].every((word) => /^\d+$/.test(word ?? ''));
  const rest = hasCounts ? note : words.slice(2);
  return {
    name,
    kind: kindOf(name),
    state,
    readErrors: hasCounts ? Number(read) : 0,
    writeErrors: hasCounts ? Number(write) : 0,
    checksumErrors: hasCounts ? Number(checksum) : 0,
    ...(rest.length > 0 && { note: rest.join(' ') }),
    children: [],
  };
}

/** "mirror-0" → mirror, "draid2:4d:8c:1s-0" → draid2; else a disk or a file by its path. */
function kindOf(name: string): string {
  const [, group] =
    /^(mirror|raidz\d|draid\d|replacing|spare|indirect|draid\d-\d+)[-:]/.exec(name) ?? [];
  if (group !== undefined) return group;
  return name.startsWith('/dev/') || !name.startsWith('/') ? 'disk' : 'file';
}
