// SPDX-License-Identifier: Apache-2.0
// What a toolstack writes into `params`, as a target: xl's "aio:/dev/zvol/a", XAPI's bare path, or
// a target URI. Parsing touches nothing: whoever looks at a path may wait for ever.
import type { OnError, TargetKind } from '../datapath/binding.ts';
import { showValue, TargetSpecError } from '../errors.ts';
import { textBytes } from '../text.ts';

export interface TargetSpec {
  readonly kind: TargetKind;
  /** An absolute path; for null: the capacity in bytes, decimal. */
  readonly path: string;
}

/** `kind` is missing for a bare path: the file system tells whether it is a file or a device. */
export interface ParsedTarget {
  readonly kind?: TargetKind;
  readonly path: string;
  /** Missing: as the configuration says. */
  readonly onError?: OnError;
  /** Other VMs may use it at the same time. */
  readonly share?: boolean;
}

// PATH_MAX without its NUL, and room for the prefixes before it.
const SPEC_BYTES_MAX = 4095;
const PREFIXES_MAX = 4;
const SECTOR_BYTES = 512;

const TARGET_KINDS: readonly string[] = ['file', 'block', 'nvme', 'null'] satisfies TargetKind[];
// xl's words for "the bytes of the target are the bytes of the disk"; they say nothing of its kind.
const RAW_FORMATS: readonly string[] = ['aio', 'raw', 'phy'];
const IMAGE_FORMATS: readonly string[] = ['vhd', 'qcow', 'qcow2', 'qed', 'vmdk', 'vdi', 'vhdx'];

export const ON_ERROR = ['report', 'stop'] as const satisfies OnError[];
const ON_ERROR_OPTION = 'on-error=';
const SHARE_OPTION = 'share';

const SIZE_UNITS: Readonly<Record<string, number>> = {
  '': 1,
  K: 1024,
  M: 1024 ** 2,
  G: 1024 ** 3,
  T: 1024 ** 4,
};

/** Throws TargetSpecError with a sentence that names what is wrong. */
export function parseTarget(params: string): ParsedTarget {
  if (params === '') throw new TargetSpecError('The target is empty.');
  if (textBytes(params) > SPEC_BYTES_MAX) {
    throw new TargetSpecError(`The target is longer than ${SPEC_BYTES_MAX} bytes.`);
  }
  if (params.includes('\0')) throw new TargetSpecError('The target contains a NUL byte.');
  const { rest, ...prefixes } = stripPrefixes(params);
  const path = prefixes.kind === 'null' ? parseSize(rest) : checkedPath(params, rest);
  return { ...prefixes, path };
}

interface Prefixes {
  kind?: TargetKind;
  onError?: OnError;
  share?: boolean;
}

/**
 * Formats and options may precede a kind ("aio:on-error=stop:nvme:/dev/ng0n1"); a kind ends the
 * prefixes.
 */
function stripPrefixes(params: string): Prefixes & { rest: string } {
  const prefixes: Prefixes = {};
  let rest = params;
  for (let count = 0; count < PREFIXES_MAX; count++) {
    const colon = rest.startsWith('/') ? -1 : rest.indexOf(':');
    if (colon < 0) return { ...prefixes, rest };
    const word = rest.slice(0, colon).toLowerCase();
    rest = rest.slice(colon + 1);
    if (TARGET_KINDS.includes(word)) return { ...prefixes, kind: word as TargetKind, rest };
    if (word === SHARE_OPTION) prefixes.share = true;
    else if (word.startsWith(ON_ERROR_OPTION)) prefixes.onError = parseOnError(params, word);
    else checkFormat(params, word);
  }
  throw new TargetSpecError(`The target ${showValue(params)} has too many prefixes.`);
}

function parseOnError(params: string, option: string): OnError {
  const given = option.slice(ON_ERROR_OPTION.length);
  const known = ON_ERROR.find((word) => word === given);
  if (known) return known;
  throw new TargetSpecError(
    `The target ${showValue(params)} asks for ${showValue(option)}; ` +
      `on-error is one of ${ON_ERROR.join(', ')}.`,
  );
}

function checkFormat(params: string, word: string): void {
  if (RAW_FORMATS.includes(word)) return;
  if (IMAGE_FORMATS.includes(word)) {
    throw new TargetSpecError(
      `The target ${showValue(params)} is a ${word} image; only raw targets are served.`,
    );
  }
  throw new TargetSpecError(
    `The target ${showValue(params)} starts with ${showValue(word)}, which is none of ` +
      `${[...RAW_FORMATS, ...TARGET_KINDS].join(', ')}.`,
  );
}

function checkedPath(params: string, rest: string): string {
  // A URI with an empty host: file:///srv/disk.
  const path = rest.startsWith('///') ? rest.slice(2) : rest;
  if (path.startsWith('//')) {
    throw new TargetSpecError(`The target ${showValue(params)} names a host, not a local path.`);
  }
  if (!path.startsWith('/')) {
    throw new TargetSpecError(`The target ${showValue(params)} is not an absolute path.`);
  }
  return path;
}

/** "64G" → bytes, decimal. */
function parseSize(text: string): string {
  const match = /^([0-9]{1,16})([KMGT]?)$/i.exec(text);
  const bytes = Number(match?.[1]) * (SIZE_UNITS[match?.[2]?.toUpperCase() ?? ''] ?? 1);
  if (!Number.isSafeInteger(bytes) || bytes <= 0 || bytes % SECTOR_BYTES !== 0) {
    throw new TargetSpecError(
      `The size ${showValue(text)} of a null target is not a multiple of 512 bytes; ` +
        'write it as 1048576, 512K, 20M, 64G or 1T.',
    );
  }
  return String(bytes);
}
