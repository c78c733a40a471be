// SPDX-License-Identifier: Apache-2.0
// What a toolstack writes into `params`, as a target: xl's "aio:/dev/zvol/a", XAPI's bare path, or
// a target URI. Parsing touches nothing: whoever looks at a path may wait for ever.
import type { NativeFillSpec, NativeTargetSpec, OnError, TargetKind } from '../datapath/binding.ts';
import { showValue, TargetSpecError } from '../errors.ts';
import {
  IMAGE_FORMATS,
  type ImageFormat,
  imagePath,
  isImageFormat,
  isImageOption,
  makeImageSpec,
  PATH_OPTIONS,
} from '../formats/image_spec.ts';
import { textBytes } from '../text.ts';
import { storeOf } from '../volume/names.ts';
import { readFillText } from './fill_text.ts';
import {
  isLimitWord,
  LIMIT_WORDS,
  type Limits,
  limitExpects,
  limitProblem,
  parseLimit,
} from './limits.ts';
import { NBD_WORDS, parseNbdAddress } from './nbd_address.ts';
import { parseSize } from './size.ts';

export interface TargetSpec {
  readonly kind: TargetKind;
  /**
   * An absolute path; for null: the capacity in bytes, decimal; for nbd: see nbd_address.ts; for
   * images: see imagePath(), their options are in it.
   */
  readonly path: string;
}

/** How a disk is served and shown, beyond what its target is. Missing: the default. */
export interface TargetOptions {
  /** Missing: as the configuration says. */
  readonly onError?: OnError;
  /** Other VMs may use the target as well. */
  readonly share?: true;
  /** The logical block that the guest is shown; missing: 512. */
  readonly sectorSize?: SectorSize;
  /** Missing: the target's own, but at most 4096. */
  readonly physicalSectorSize?: number;
  /** What the guest may ask a second. */
  readonly limits?: Limits;
}

/** `kind` is missing for a bare path: the file system tells whether it is a file or a device. */
export interface ParsedTarget extends TargetOptions {
  readonly kind?: TargetKind;
  readonly path: string;
}

// PATH_MAX without its NUL, and room for the prefixes before it.
const SPEC_BYTES_MAX = 4095;
const PREFIXES_MAX = 16;
const SECTOR_BYTES = 512;

const TARGET_KINDS: readonly string[] = [
  'file',
  'block',
  'nvme',
  'null',
  'fill',
  ...IMAGE_FORMATS,
] satisfies TargetKind[];
// xl's words for "the bytes of the target are the bytes of the disk"; they say nothing of its kind.
const RAW_FORMATS: readonly string[] = ['aio', 'raw', 'phy'];
const OTHER_FORMATS: readonly string[] = ['qcow', 'qed', 'vdi'];

export const ON_ERROR = ['report', 'stop'] as const satisfies OnError[];
const SECTOR_SIZES = [512, 4096] as const;
export type SectorSize = (typeof SECTOR_SIZES)[number];
const PHYSICAL_SECTOR_SIZE_MAX = 1024 ** 2;

/** Throws TargetSpecError with a sentence that names what is wrong. */
export function parseTarget(params: string): ParsedTarget {
  const { rest, image, isVolume, ...prefixes } = stripPrefixes(checked(params));
  const { kind, limits = {} } = prefixes;
  const problem = limitProblem(limits);
  if (problem) throw new TargetSpecError(`The target ${showValue(params)} is wrong: ${problem}.`);
  if (rest === '' && kind !== 'null') throw new TargetSpecError('The target is empty.');
  if (kind === 'fill') {
    parseFill(rest);
    return { ...prefixes, path: rest };
  }
  if (kind !== undefined && isImageFormat(kind)) {
    const spec = makeImageSpec(kind, image, toLocation(params, rest, kind));
    return { ...prefixes, path: imagePath(spec) };
  }
  const [option] = Object.keys(image);
  if (option !== undefined) {
    throw new TargetSpecError(
      `The target ${showValue(params)} has the option ${option}, which is for images ` +
        `(${IMAGE_FORMATS.join(', ')}), and does not say which it is.`,
    );
  }
  const path = isVolume ? volumePath(params, rest) : pathOf(params, rest, kind);
  return { ...prefixes, path };
}

/** Its device: nobody need be asked, so that a disk is served whether the manager runs or not. */
function volumePath(params: string, rest: string): string {
  const [, pool, key] = VOLUME.exec(rest) ?? [];
  if (pool !== undefined && key !== undefined) return `/dev/zvol/${storeOf(pool)}/${key}`;
  throw new TargetSpecError(
    `The target ${showValue(params)} names no volume, such as zfs:tank/vm1.`,
  );
}

function pathOf(params: string, rest: string, kind: TargetKind | undefined): string {
  if (kind === 'null') return parseCapacity(rest);
  return kind === 'nbd' ? parseNbdAddress(params, rest) : toPath(params, rest, kind);
}

function toLocation(params: string, rest: string, format: ImageFormat): string {
  if (format === 'https') return `https:${rest}`;
  if (format === 'rbd' || rest.startsWith('/')) return rest.replace(/^\/+/, '/');
  // A word that is no option after all is not to be taken for a folder below /dev.
  throw new TargetSpecError(`The target ${showValue(params)} does not end in an absolute path.`);
}

/** For the data path, which is told what a fill is made of. */
export function withFill(spec: NativeTargetSpec, isTakeOver: boolean): NativeTargetSpec {
  if (spec.kind !== 'fill') return spec;
  return { ...spec, fill: { ...parseFill(spec.path), lateSource: isTakeOver } };
}

/** Throws TargetSpecError. */
function parseFill(text: string): Omit<NativeFillSpec, 'lateSource'> {
  const { local, source, map = '', chunkBytes, rate } = readFillText(text);
  return {
    local: partOfFill(local, 'disk', ['file', 'block', 'nvme']),
    source: { ...partOfFill(source, 'source', undefined), readOnly: true },
    mapPath: map,
    chunkBytes,
    rate,
  };
}

function partOfFill(
  text: string,
  part: string,
  kinds: readonly TargetKind[] | undefined,
): NativeTargetSpec {
  const { kind, path, ...options } = parseTarget(text);
  if (Object.keys(options).length > 0) {
    throw new TargetSpecError(
      `The ${part} ${showValue(text)} of a fill has options; put them in front of fill:.`,
    );
  }
  const isServed = kind !== 'fill' && (kind === undefined || (kinds?.includes(kind) ?? true));
  if (isServed) return { kind: kind ?? 'auto', path, readOnly: false };
  throw new TargetSpecError(
    `The ${part} of a fill is ${showValue(text)}; ` +
      (kinds ? `it is one of ${kinds.join(', ')}.` : 'it can be any target but a fill.'),
  );
}

/**
 * Whether this stands for a drive without a disc: toolstacks write "", or "aio:" with nothing
 * behind it.
 */
export function isEmptyTarget(params: string): boolean {
  try {
    const { rest, kind } = stripPrefixes(checked(params));
    return rest === '' && kind !== 'null';
  } catch {
    // parseTarget() says what is wrong with it.
    return false;
  }
}

/** The address of the NBD export that it names, if it names one. */
export function namedExport(params: string): { readonly namedBy?: string } {
  try {
    const { kind, path } = parseTarget(params);
    return kind === 'nbd' ? { namedBy: path } : {};
  } catch {
    return {};
  }
}

/** What stands before the target; where a script has its own words for it, nothing does. */
export function targetLimits(params: string): Limits | undefined {
  try {
    return parseTarget(params).limits;
  } catch {
    return undefined;
  }
}

/** What a guest is to be shown; where a script has its own words for a target, the defaults. */
export function shownSizes(
  params: string,
): Pick<TargetOptions, 'sectorSize' | 'physicalSectorSize'> {
  try {
    return parseTarget(params);
  } catch {
    return {};
  }
}

function checked(params: string): string {
  if (textBytes(params) > SPEC_BYTES_MAX) {
    throw new TargetSpecError(`The target is longer than ${SPEC_BYTES_MAX} bytes.`);
  }
  if (params.includes('\0')) throw new TargetSpecError('The target contains a NUL byte.');
  return params;
}

/** A volume of the volume manager's, by its name alone: "zfs:tank/vm1". */
const VOLUME_WORD = 'zfs';
const VOLUME = /^([A-Za-z][A-Za-z0-9_.:-]*)\/([A-Za-z0-9][A-Za-z0-9._-]*)$/;

type Prefixes = { -readonly [Key in keyof TargetOptions]: TargetOptions[Key] } & {
  kind?: TargetKind;
  /** What follows names a volume. */
  isVolume?: true;
  /** Options of an image. */
  image: Record<string, string>;
};

// A slash before the colon: "disk/by-path/pci-0000:00" is a path.
const PREFIX = new RegExp(`^([^/:]*|(?:${PATH_OPTIONS.join('|')})=/[^:]*):`);

/** In any order ("aio:on-error=stop:nvme:/dev/ng0n1"); an option named twice counts last. */
function stripPrefixes(params: string): Prefixes & { rest: string } {
  const prefixes: Prefixes = { image: {} };
  let rest = params;
  for (let count = 0; count <= PREFIXES_MAX; count++) {
    const [whole, word] = PREFIX.exec(rest) ?? [];
    if (whole === undefined || word === undefined) return { ...prefixes, rest };
    if (NBD_WORDS.includes(word.toLowerCase())) {
      takeKind(params, 'nbd', prefixes);
      return { ...prefixes, rest };
    }
    takePrefix(params, word, prefixes);
    rest = rest.slice(whole.length);
    // What follows is a language of its own.
    if (prefixes.kind === 'fill') return { ...prefixes, rest };
  }
  throw new TargetSpecError(`The target ${showValue(params)} has too many prefixes.`);
}

function takePrefix(params: string, written: string, prefixes: Prefixes): void {
  const word = written.toLowerCase();
  const [name = '', value] = word.split(/=(.*)/s, 2);
  if (value !== undefined && isImageOption(name)) {
    // A user's or a file's name is what it is.
    prefixes.image[name] = written.slice(name.length + 1);
  } else if (value !== undefined && Object.hasOwn(OPTIONS, name)) {
    OPTIONS[name as keyof typeof OPTIONS](params, value, prefixes);
  } else if (value !== undefined && isLimitWord(name)) {
    const limit = parseLimit(name, value);
    if (!limit) throw badOption(params, name, value, limitExpects(name));
    prefixes.limits = { ...prefixes.limits, ...limit };
  } else if (word === 'share') prefixes.share = true;
  else if (word === VOLUME_WORD) {
    takeKind(params, 'block', prefixes);
    prefixes.isVolume = true;
  } else if (TARGET_KINDS.includes(word)) takeKind(params, word as TargetKind, prefixes);
  else checkFormat(params, word);
}

function takeKind(params: string, kind: TargetKind, prefixes: Prefixes): void {
  const { kind: before = kind } = prefixes;
  if (before !== kind) {
    throw new TargetSpecError(`The target ${showValue(params)} is both ${before} and ${kind}.`);
  }
  prefixes.kind = kind;
}

type TakeOption = (params: string, value: string, prefixes: Prefixes) => void;

const OPTIONS = {
  'on-error': (params, value, prefixes) => {
    const known = ON_ERROR.find((word) => word === value);
    if (!known) throw badOption(params, 'on-error', value, `one of ${ON_ERROR.join(', ')}`);
    prefixes.onError = known;
  },
  'sector-size': (params, value, prefixes) => {
    const known = SECTOR_SIZES.find((bytes) => String(bytes) === value);
    if (!known) throw badOption(params, 'sector-size', value, SECTOR_SIZES.join(' or '));
    prefixes.sectorSize = known;
  },
  'physical-sector-size': (params, value, prefixes) => {
    const bytes = /^[1-9][0-9]{2,6}$/.test(value) ? Number(value) : 0;
    const isPowerOfTwo = Number.isInteger(Math.log2(bytes));
    if (bytes < SECTOR_BYTES || bytes > PHYSICAL_SECTOR_SIZE_MAX || !isPowerOfTwo) {
      const expects = `a power of two from ${SECTOR_BYTES} to ${PHYSICAL_SECTOR_SIZE_MAX}`;
      throw badOption(params, 'physical-sector-size', value, expects);
    }
    prefixes.physicalSectorSize = bytes;
  },
} as const satisfies Record<string, TakeOption>;

function badOption(params: string, name: string, value: string, expects: string): TargetSpecError {
  return new TargetSpecError(
    `The target ${showValue(params)} asks for ${showValue(`${name}=${value}`)}; ` +
      `${name} is ${expects}.`,
  );
}

function checkFormat(params: string, word: string): void {
  if (RAW_FORMATS.includes(word)) return;
  if (OTHER_FORMATS.includes(word)) {
    throw new TargetSpecError(
      `The target ${showValue(params)} is a ${word} image; of images only ` +
        `${IMAGE_FORMATS.join(', ')} are served.`,
    );
  }
  const names = [...Object.keys(OPTIONS), ...Object.keys(LIMIT_WORDS), 'group', 'weight'];
  const options = names.map((name) => `${name}=`);
  throw new TargetSpecError(
    `The target ${showValue(params)} starts with ${showValue(word)}, which is none of ` +
      `${[...RAW_FORMATS, ...TARGET_KINDS, VOLUME_WORD, 'nbd', ...options, 'share'].join(', ')}.`,
  );
}

/** As xl's manual has it, a path that does not begin with a slash is below /dev. */
function toPath(params: string, rest: string, kind: TargetKind | undefined): string {
  if (kind === 'file' && /^\/\/[^/]/.test(rest)) {
    throw new TargetSpecError(`The target ${showValue(params)} names a host, not a local path.`);
  }
  // xenopsd puts a slash before a path that has one.
  if (rest.startsWith('/')) return rest.replace(/^\/+/, '/');
  const isBelowDev = kind !== 'file' && !rest.split('/').some((name) => /^\.{0,2}$/.test(name));
  if (isBelowDev) return `/dev/${rest}`;
  throw new TargetSpecError(`The target ${showValue(params)} is not an absolute path.`);
}

/** "64G" → bytes, decimal. */
function parseCapacity(text: string): string {
  const bytes = parseSize(text);
  const wrong =
    bytes === undefined
      ? 'is no size'
      : bytes <= 0
        ? 'is too small'
        : bytes % SECTOR_BYTES !== 0 && 'is not a multiple of 512 bytes';
  if (wrong) {
    throw new TargetSpecError(
      `The size ${showValue(text)} of a null target ${wrong}: ` +
        'write it as 1048576, 512K, 20M, 64G or 1T.',
    );
  }
  return String(bytes);
}
