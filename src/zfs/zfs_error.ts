// SPDX-License-Identifier: Apache-2.0
// What a command of ZFS failed by. Its exit status is 1 for nearly everything, so the words tell.

/** Kinds that callers tell apart. */
export type ZfsErrorKind =
  | 'missing'
  | 'timeout'
  | 'unknown'
  | 'exists'
  | 'busy'
  | 'full'
  | 'suspended'
  | 'in use'
  | 'layout'
  | 'labelled'
  | 'snapshots'
  | 'clones'
  | 'key'
  | 'property'
  | 'unsupported'
  | 'other';

/** In this order: the first that matches. Words of ZFS 2.1 to 2.4 (libzfs_util.c and others). */
const WORDS: readonly [RegExp, ZfsErrorKind][] = [
  [/modules? (?:are not|cannot be auto-)loaded|modprobe zfs|\/dev\/zfs/, 'missing'],
  [/I\/O is currently suspended|pool is (?:suspended|currently unavailable)/, 'suspended'],
  [/mismatched replication|contains both files|invalid vdev specification: /, 'layout'],
  [/use '-f' to override|does not contain an EFI label/, 'labelled'],
  [/is part of|is mounted|in use and contains/, 'in use'],
  [/dependent clones/, 'clones'],
  [/has children|more recent (?:snapshots|than)/, 'snapshots'],
  [/incremental source|not (?:an )?earlier/i, 'unsupported'],
  [/does(?:n't| not) exist|no such pool|could not find any snapshots|no such device in/, 'unknown'],
  [/already exists|(?:dataset|bookmark) exists/, 'exists'],
  [/is busy|currently in use/, 'busy'],
  [/out of space|no space left|greater than available/i, 'full'],
  [
    /incorrect key|key must be loaded|invalid hex|raw key too|passphrase too|key load error/i,
    'key',
  ],
  [/property|must be one of|must be a/, 'property'],
  [/not supported|unsupported|must be upgraded|invalid option/, 'unsupported'],
];

export class ZfsError extends Error {
  readonly kind: ZfsErrorKind;
  /** ZFS's own words, a line or more. */
  readonly words: string;

  constructor(kind: ZfsErrorKind, program: string, args: readonly string[], words: string) {
    super(`${program} ${shownArguments(args)}: ${words.split('\n').join('; ')}`);
    this.name = 'ZfsError';
    this.kind = kind;
    this.words = words;
  }

  static of(program: string, args: readonly string[], words: string): ZfsError {
    const [, kind = 'other'] = WORDS.find(([pattern]) => pattern.test(words)) ?? [];
    return new ZfsError(kind as ZfsErrorKind, program, args, words);
  }
}

export function isZfsError(error: unknown, ...kinds: ZfsErrorKind[]): error is ZfsError {
  return error instanceof ZfsError && kinds.includes(error.kind);
}

const SHOWN_MAX = 200;

function shownArguments(args: readonly string[]): string {
  const text = args.join(' ');
  return text.length > SHOWN_MAX ? `${text.slice(0, SHOWN_MAX)}…` : text;
}
