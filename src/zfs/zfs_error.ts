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
  | 'labelled'
  | 'snapshots'
  | 'clones'
  | 'key'
  | 'property'
  | 'unsupported'
  | 'other';

/** In this order: the first that matches. Words of ZFS 2.1 to 2.4 (libzfs_util.c and others). */
const WORDS: readonly [RegExp, ZfsErrorKind][] = [
  [/ZFS modules? (?:are|is|cannot be) not? ?(?:auto-)?loaded|modprobe zfs|\/dev\/zfs/i, 'missing'],
  [/I\/O is currently suspended|pool is suspended/i, 'suspended'],
  [
    /dataset does not exist|no such pool|could not find any snapshots|bookmark .*does not/i,
    'unknown',
  ],
  [/snapshot has dependent clones|dependent clones/i, 'clones'],
  [/has children|more recent snapshots|filesystem has (?:children|dependents)/i, 'snapshots'],
  [/already exists|dataset exists|snapshot exists/i, 'exists'],
  [
    /is part of (?:\w+ )?(?:active|potentially active)? ?pool .*|is mounted|in use and contains/i,
    'in use',
  ],
  [/is busy|currently in use|device or resource busy/i, 'busy'],
  [
    /out of space|no space left|exceeds? (?:available|quota)|greater than (?:available|pool)/i,
    'full',
  ],
  [/use '-f' to override|contains a filesystem|does not contain an EFI label/i, 'labelled'],
  [
    /incorrect key|key (?:is )?not loaded|key unavailable|invalid (?:raw|hex) key|passphrase too/i,
    'key',
  ],
  [
    /invalid property|bad property|'\w+' must be|must be one of|property '.*' (?:not|is)/i,
    'property',
  ],
  [/not supported|unsupported|pool must be upgraded|invalid option/i, 'unsupported'],
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
