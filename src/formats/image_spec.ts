// SPDX-License-Identifier: Apache-2.0
// Images that other programs read and write: which format, where, and with which options, under
// the names that QEMU gives them. Pure.
import { showValue, TargetSpecError } from '../errors.ts';
import { parseSize } from '../target/size.ts';
import { textBytes } from '../text.ts';

export const IMAGE_FORMATS = ['qcow2', 'vhd', 'vhdx', 'vmdk', 'rbd', 'https'] as const;
export type ImageFormat = (typeof IMAGE_FORMATS)[number];

export interface ImageSpec {
  readonly format: ImageFormat;
  /** An absolute path; of rbd "pool/image", of https the URL. */
  readonly location: string;
  /** Checked, each in one spelling only; sizes in bytes. */
  readonly options: Readonly<Record<string, string>>;
}

interface Option {
  readonly formats: readonly ImageFormat[];
  /** The one spelling of a value; undefined: it is none. */
  readonly read: (value: string) => string | undefined;
  readonly expects: string;
}

const FILES: readonly ImageFormat[] = ['qcow2', 'vhd', 'vhdx', 'vmdk'];
const UNITS = ['', 'K', 'M', 'G', 'T'];
const LOCATION_BYTES_MAX = 4095;

function oneOf(...words: string[]): Pick<Option, 'read' | 'expects'> {
  const read = (value: string) => (words.includes(value) ? value : undefined);
  return { read, expects: `one of ${words.join(', ')}` };
}

const size: Pick<Option, 'read' | 'expects'> = {
  read: (value) => {
    const bytes = parseSize(value);
    return bytes ? String(bytes) : undefined;
  },
  expects: 'a size such as 512K, 8M or 1G',
};

const seconds: Pick<Option, 'read' | 'expects'> = {
  read: (value) => (/^(0|[1-9][0-9]{0,4})$/.test(value) ? value : undefined),
  expects: 'a number of seconds, at most 99999',
};

const name: Pick<Option, 'read' | 'expects'> = {
  read: (value) => (/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/.test(value) ? value : undefined),
  expects: 'a name of letters, digits, points, dashes and underscores',
};

const file: Pick<Option, 'read' | 'expects'> = {
  read: (value) => (/^\/[^\0:]{1,1000}$/.test(value) ? value : undefined),
  expects: 'an absolute path without a colon',
};

const onOff = oneOf('on', 'off');

const OPTIONS: Readonly<Record<string, Option>> = {
  'l2-cache-size': { formats: ['qcow2'], ...size },
  'l2-cache-entry-size': { formats: ['qcow2'], ...size },
  'refcount-cache-size': { formats: ['qcow2'], ...size },
  'cache-size': { formats: ['qcow2'], ...size },
  'cache-clean-interval': { formats: ['qcow2'], ...seconds },
  'lazy-refcounts': { formats: ['qcow2'], ...onOff },
  backing: { formats: ['qcow2', 'vmdk'], ...oneOf('none') },
  'cache.direct': { formats: FILES, ...onOff },
  'cache.writeback': { formats: [...FILES, 'rbd'], ...onOff },
  'cache.no-flush': { formats: [...FILES, 'rbd'], ...onOff },
  aio: { formats: FILES, ...oneOf('threads', 'native', 'io_uring') },
  discard: { formats: [...FILES, 'rbd'], ...oneOf('unmap', 'ignore') },
  'detect-zeroes': { formats: [...FILES, 'rbd'], ...oneOf('off', 'on', 'unmap') },
  user: { formats: ['rbd'], ...name },
  conf: { formats: ['rbd'], ...file },
  timeout: { formats: ['https'], ...seconds },
  sslverify: { formats: ['https'], ...onOff },
  cainfo: { formats: ['https'], ...file },
};

/** Whose values may have slashes, which else begin a path. */
export const PATH_OPTIONS: readonly string[] = ['conf', 'cainfo'];

export function isImageFormat(word: string): word is ImageFormat {
  return (IMAGE_FORMATS as readonly string[]).includes(word);
}

export function isImageOption(word: string): boolean {
  return Object.hasOwn(OPTIONS, word);
}

/** Throws TargetSpecError with a sentence that names what is wrong. */
export function makeImageSpec(
  format: ImageFormat,
  given: Readonly<Record<string, string>>,
  location: string,
): ImageSpec {
  const options = Object.entries(given)
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .map(([key, value]) => [key, checkedOption(format, key, value)]);
  return {
    format,
    location: checkedLocation(format, location),
    options: Object.fromEntries(options),
  };
}

/** What makeImageSpec() reads again, the same for all spellings of one image. */
export function imagePath({ location, options }: ImageSpec): string {
  const prefixes = Object.entries(options).map(
    ([key, value]) => `${key}=${OPTIONS[key]?.read === size.read ? shortSize(value) : value}:`,
  );
  return prefixes.join('') + location;
}

/** Of imagePath(). Throws TargetSpecError. */
export function parseImagePath(format: ImageFormat, text: string): ImageSpec {
  const options: Record<string, string> = {};
  let rest = text;
  for (;;) {
    const [whole, key = '', value = ''] = /^([a-z0-9.-]+)=([^:]*):/.exec(rest) ?? [];
    if (whole === undefined || !isImageOption(key)) return makeImageSpec(format, options, rest);
    options[key] = value;
    rest = rest.slice(whole.length);
  }
}

/**
 * Whether each write is flushed. QEMU keeps qcow2's tables in its memory until a flush, and other
 * formats' not at all: when it crashes the guest goes on, and must find what it was answered for.
 */
export function writesThrough({ format, options }: ImageSpec): boolean {
  return (options['cache.writeback'] ?? (format === 'qcow2' ? 'off' : 'on')) === 'off';
}

/** Whether what was answered may be in the program's memory alone, until a flush. */
export function keepsBack(spec: ImageSpec): boolean {
  if (spec.format === 'rbd') return spec.options['cache.writeback'] === 'on';
  return spec.format === 'qcow2' && !writesThrough(spec);
}

function checkedOption(format: ImageFormat, key: string, value: string): string {
  const option = OPTIONS[key];
  const shown = showValue(`${key}=${value}`);
  if (!option?.formats.includes(format)) {
    const formats = option?.formats.join(', ') ?? 'nothing';
    throw new TargetSpecError(`The option ${shown} is for ${formats}, not for ${format}.`);
  }
  const read = option.read(value);
  if (read !== undefined) return read;
  throw new TargetSpecError(`The option ${shown} cannot be used: ${key} is ${option.expects}.`);
}

function checkedLocation(format: ImageFormat, location: string): string {
  if (textBytes(location) > LOCATION_BYTES_MAX) {
    throw new TargetSpecError(`The image's name is longer than ${LOCATION_BYTES_MAX} bytes.`);
  }
  // The other program is told it as JSON.
  if (/[\ud800-\udfff]/u.test(location) || location.includes('\0')) {
    throw new TargetSpecError(
      `The image ${showValue(location)} has a name that is not UTF-8: rename it, or make a link.`,
    );
  }
  if (format === 'rbd') return checkedRbd(location);
  return format === 'https' ? checkedUrl(location) : location;
}

const RBD_NAME = /^[^/@:\p{Cc}]+(\/[^/@:\p{Cc}]+){1,2}(@[^/@:\p{Cc}]+)?$/u;

function checkedRbd(location: string): string {
  if (RBD_NAME.test(location)) return location;
  throw new TargetSpecError(
    `The image ${showValue(location)} is not POOL/IMAGE, POOL/NAMESPACE/IMAGE or one of these ` +
      'with @SNAPSHOT.',
  );
}

function checkedUrl(location: string): string {
  const url = URL.canParse(location) ? new URL(location) : undefined;
  if (!url || !/^https:\/\/[^/]/.test(location) || /[\s\p{Cc}]/u.test(location)) {
    throw new TargetSpecError(`The image ${showValue(location)} is no https://HOST/PATH.`);
  }
  if (url.username !== '' || url.password !== '') {
    throw new TargetSpecError(
      `The URL of ${url.host} has a user or a password in it, which lists and logs would show.`,
    );
  }
  return location;
}

function shortSize(bytes: string): string {
  let value = Number(bytes);
  let unit = 0;
  while (value % 1024 === 0 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value}${UNITS[unit]}`;
}
