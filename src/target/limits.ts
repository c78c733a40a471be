// SPDX-License-Identifier: Apache-2.0
// Pure: limits of a disk in words, as they stand before a target, in a toolstack's node and on the
// command line.
import { RingdiskError, showValue } from '../errors.ts';
import { parseSize } from './size.ts';

/** Missing: no limit; a burst: a tenth of a second's worth. */
export interface LimitFigures {
  /** Operations a second. */
  readonly iops?: number;
  readonly readIops?: number;
  readonly writeIops?: number;
  /** Bytes a second. */
  readonly bps?: number;
  readonly readBps?: number;
  readonly writeBps?: number;
  /** What goes at once after a rest. */
  readonly burst?: number;
  readonly burstBytes?: number;
}

export interface Limits extends LimitFigures {
  /** Its disks share the figures. */
  readonly group?: string;
  /** Of this disk among those of its group that wait; missing: 1. */
  readonly weight?: number;
}

type Figure = keyof LimitFigures;
type Kind = 'operations' | 'bytes';
interface Bounds {
  readonly min: number;
  readonly max: number;
}

/** In this order in all that is shown. */
export const LIMIT_WORDS = {
  iops: { key: 'iops', kind: 'operations', isRate: true },
  'read-iops': { key: 'readIops', kind: 'operations', isRate: true },
  'write-iops': { key: 'writeIops', kind: 'operations', isRate: true },
  bps: { key: 'bps', kind: 'bytes', isRate: true },
  'read-bps': { key: 'readBps', kind: 'bytes', isRate: true },
  'write-bps': { key: 'writeBps', kind: 'bytes', isRate: true },
  burst: { key: 'burst', kind: 'operations', isRate: false },
  'burst-bytes': { key: 'burstBytes', kind: 'bytes', isRate: false },
} as const satisfies Record<string, { key: Figure; kind: Kind; isRate: boolean }>;

export type LimitWord = keyof typeof LIMIT_WORDS;
const WORDS = Object.keys(LIMIT_WORDS) as LimitWord[];

// Of figures that are too small a guest would wait for minutes, and takes its disk for dead.
const BOUNDS: Record<Kind, Bounds> = {
  operations: { min: 1, max: 100_000_000 },
  bytes: { min: 4096, max: 1024 ** 4 },
};
/** Words that are no figures: they are a disk's, not its group's. */
const OWN_WORDS = ['group', 'weight'] as const;
type OwnWord = (typeof OWN_WORDS)[number];
export const WEIGHT_MAX = 1000;
const GROUP = /^[a-z0-9][a-z0-9_.-]{0,63}$/;
const GROUP_EXPECTS =
  'a name of at most 64 letters, digits, "_", "." and "-" that begins with a letter or digit';

export function isLimitWord(word: string): word is LimitWord | OwnWord {
  return isOwnWord(word) || Object.hasOwn(LIMIT_WORDS, word);
}

function isOwnWord(word: string): word is OwnWord {
  return (OWN_WORDS as readonly string[]).includes(word);
}

/** What `value` of this word must be: completes "iops is ...". */
export function limitExpects(word: LimitWord | OwnWord): string {
  if (word === 'group') return GROUP_EXPECTS;
  if (word === 'weight') return `a number from 1 to ${WEIGHT_MAX}`;
  return LIMIT_WORDS[word].kind === 'operations'
    ? 'a number from 1 to 100000000'
    : 'a size from 4K to 1T, such as 100M';
}

/** undefined: not a value of this word. */
export function parseLimit(word: LimitWord | OwnWord, value: string): Limits | undefined {
  if (word === 'weight') {
    const weight = /^[0-9]{1,4}$/.test(value) ? Number(value) : 0;
    return weight >= 1 && weight <= WEIGHT_MAX ? { weight } : undefined;
  }
  if (word === 'group') {
    const group = value.toLowerCase();
    return GROUP.test(group) ? { group } : undefined;
  }
  const { key, kind } = LIMIT_WORDS[word];
  const { min, max } = BOUNDS[kind];
  const isCount = /^[0-9]{1,9}$/.test(value);
  const number = kind === 'bytes' ? parseSize(value) : isCount ? Number(value) : undefined;
  return number !== undefined && number >= min && number <= max ? { [key]: number } : undefined;
}

/** A burst is one of something: a sentence's end where that is missing. */
export function limitProblem(limits: Limits): string | undefined {
  if (limits.group !== undefined) return undefined;
  if (limits.weight !== undefined) return 'weight needs a group';
  const hasRate = (kind: Kind) =>
    WORDS.some((word) => {
      const known = LIMIT_WORDS[word];
      return known.isRate && known.kind === kind && limits[known.key] !== undefined;
    });
  if (limits.burst !== undefined && !hasRate('operations')) return 'burst needs a limit of iops';
  if (limits.burstBytes !== undefined && !hasRate('bytes')) {
    return 'burst-bytes needs a limit of bps';
  }
  return undefined;
}

/** `what`: a sentence's end, as those below. */
export function invalidLimits(what: string): RingdiskError {
  return new RingdiskError('LIMIT_INVALID', `It cannot be limited so: ${what}.`);
}

/** "iops=2000,bps=100M" → limits, or a sentence's end that says what is wrong. */
export function parseLimits(text: string): Limits | string {
  const limits = parseParts(text, parseLimit);
  return typeof limits === 'string' ? limits : (limitProblem(limits) ?? limits);
}

/** As parseLimits(), of what is to change: 0 takes a figure away. */
export function parseLimitChange(text: string): Limits | string {
  return parseParts(text, (word, value) => {
    const isGone = value === '0' && !isOwnWord(word);
    return isGone ? { [LIMIT_WORDS[word].key]: 0 } : parseLimit(word, value);
  });
}

function parseParts(text: string, parse: typeof parseLimit): Limits | string {
  let limits: Limits = {};
  if (text === '') return limits;
  for (const part of text.split(',')) {
    const [word = '', value = ''] = part.split(/=(.*)/s, 2);
    if (!isLimitWord(word))
      return `${showValue(word)} is none of ${[...WORDS, ...OWN_WORDS].join(', ')}`;
    const parsed = parse(word, value);
    if (!parsed) return `${word} is ${limitExpects(word)}, not ${showValue(value)}`;
    limits = { ...limits, ...parsed };
  }
  return limits;
}

/** The other way; sizes in bytes. */
export function formatLimits(limits: Limits): string {
  const figures = WORDS.flatMap((word) => {
    const value = limits[LIMIT_WORDS[word].key];
    return value === undefined ? [] : [`${word}=${value}`];
  });
  const own = OWN_WORDS.flatMap((word) =>
    limits[word] === undefined ? [] : [`${word}=${limits[word]}`],
  );
  return [...figures, ...own].join(',');
}

/** Without its group, and its part of that. */
export function figuresOf({ group: _, weight: __, ...figures }: Limits): LimitFigures {
  return figures;
}

export function hasFigures(limits: Limits): boolean {
  return Object.keys(figuresOf(limits)).length > 0;
}

/** What has been given is changed, the rest stays; 0 takes a figure away. */
export function mergeLimits(before: Limits, given: Limits): Limits {
  const entries = Object.entries({ ...before, ...given }).filter(([, value]) => value !== 0);
  return Object.fromEntries(entries) as Limits;
}
