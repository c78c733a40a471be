// SPDX-License-Identifier: Apache-2.0
// The program that serves an image by NBD, and its arguments. Pure. No shell sees them, and no
// value can become another option: QEMU is given JSON, nbdkit one argument a parameter.
import { type ImageFormat, type ImageSpec, keepsBack, writesThrough } from './image_spec.ts';

/** One file of an image, the top one first; the others are what it is based on. */
export interface ImageNode {
  /** QEMU's name of the format. */
  readonly format: string;
  readonly path: string;
  readonly isDevice: boolean;
}

export interface HelperPlaces {
  readonly socket: string;
  /** Written when it serves. */
  readonly pidFile: string;
}

export interface HelperCommand {
  readonly program: string;
  /** Debian's, which has it. */
  readonly package: string;
  /** Without the program's name. */
  readonly args: readonly string[];
}

/** By which clients ask for it. */
export const EXPORT_NAME = 'disk';

/** A VBD's queues have a connection each, and several VBDs may share an image. */
const CONNECTIONS_MAX = 256;
const NODE = 'disk';

const DRIVERS = { qcow2: 'qcow2', vhd: 'vpc', vhdx: 'vhdx', vmdk: 'vmdk' } as const;
export type FileFormat = keyof typeof DRIVERS;

export function isFileFormat(format: ImageFormat): format is FileFormat {
  return Object.hasOwn(DRIVERS, format);
}

export function driverOf(format: FileFormat): string {
  return DRIVERS[format];
}

/** `nodes`: of an image in files; none of others. */
export function helperCommand(
  spec: ImageSpec,
  nodes: readonly ImageNode[],
  readOnly: boolean,
  places: HelperPlaces,
): HelperCommand {
  if (spec.format === 'https') return nbdkit(spec, places);
  const isThrough = !readOnly && writesThrough(spec);
  return qemu(blockdev(spec, nodes, readOnly), { readOnly, isThrough }, places);
}

type Blockdev = Record<string, unknown>;

function qemu(
  blockdev: Blockdev,
  { readOnly, isThrough }: { readOnly: boolean; isThrough: boolean },
  { socket, pidFile }: HelperPlaces,
): HelperCommand {
  const server = { addr: { type: 'unix', path: socket }, 'max-connections': CONNECTIONS_MAX };
  const exported = {
    type: 'nbd',
    id: EXPORT_NAME,
    'node-name': NODE,
    name: EXPORT_NAME,
    writable: !readOnly,
    ...(isThrough && { writethrough: true }),
  };
  return {
    program: 'qemu-storage-daemon',
    package: 'qemu-utils (Debian 12: qemu-system-common)',
    args: [
      ...['--blockdev', JSON.stringify(blockdev)],
      ...['--nbd-server', JSON.stringify(server)],
      ...['--export', JSON.stringify(exported)],
      ...['--pidfile', pidFile],
    ],
  };
}

function blockdev(spec: ImageSpec, nodes: readonly ImageNode[], readOnly: boolean): Blockdev {
  const { options } = spec;
  const common = {
    'read-only': readOnly,
    discard: options['discard'] ?? 'unmap',
    ...(options['detect-zeroes'] && { 'detect-zeroes': options['detect-zeroes'] }),
  };
  if (spec.format === 'rbd') {
    return { driver: 'raw', 'node-name': NODE, ...common, ...cache(options), file: rbd(spec) };
  }
  const [top, ...bases] = nodes;
  if (!top) throw new Error('an image in files has at least one');
  return {
    driver: top.format,
    'node-name': NODE,
    ...common,
    ...cache(options),
    ...formatOptions(options),
    file: protocol(top, options),
    ...(CAN_HAVE_BASE.includes(top.format) && { backing: backing(bases, options) }),
  };
}

const CAN_HAVE_BASE = ['qcow2', 'vmdk', 'qed', 'qcow'];

/** All of it is said, so that QEMU guesses nothing and opens nothing that was not looked at. */
function backing(bases: readonly ImageNode[], options: ImageSpec['options']): Blockdev | null {
  const [top, ...rest] = bases;
  if (!top) return null;
  return {
    driver: top.format,
    'read-only': true,
    ...cache(options),
    file: { ...protocol(top, options), 'read-only': true },
    ...(CAN_HAVE_BASE.includes(top.format) && { backing: backing(rest, options) }),
  };
}

function protocol({ path, isDevice }: ImageNode, options: ImageSpec['options']): Blockdev {
  const { aio } = options;
  const driver = isDevice ? 'host_device' : 'file';
  return { driver, filename: path, ...(aio && { aio }), ...cache(options) };
}

function cache(options: ImageSpec['options']): Blockdev {
  const direct = options['cache.direct'];
  const noFlush = options['cache.no-flush'];
  if (direct === undefined && noFlush === undefined) return {};
  return {
    cache: {
      ...(direct && { direct: direct === 'on' }),
      ...(noFlush && { 'no-flush': noFlush === 'on' }),
    },
  };
}

const NUMBERS = [
  'l2-cache-size',
  'l2-cache-entry-size',
  'refcount-cache-size',
  'cache-size',
  'cache-clean-interval',
];

function formatOptions(options: ImageSpec['options']): Blockdev {
  const numbers = NUMBERS.flatMap((key) => {
    const value = options[key];
    return value === undefined ? [] : [[key, Number(value)] as const];
  });
  const lazy = options['lazy-refcounts'];
  return { ...Object.fromEntries(numbers), ...(lazy && { 'lazy-refcounts': lazy === 'on' }) };
}

function rbd(spec: ImageSpec): Blockdev {
  const { location, options } = spec;
  const [names = '', snapshot] = location.split('@');
  const parts = names.split('/');
  const { user, conf } = options;
  return {
    driver: 'rbd',
    pool: parts.at(0),
    ...(parts.length === 3 && { namespace: parts.at(1) }),
    image: parts.at(-1),
    ...(snapshot && { snapshot }),
    ...(user && { user }),
    ...(conf && { conf }),
    // Else librbd answers for what it has in its memory alone.
    ...(!keepsBack(spec) && { cache: { direct: true } }),
  };
}

function nbdkit(
  { location, options }: ImageSpec,
  { socket, pidFile }: HelperPlaces,
): HelperCommand {
  const { timeout, sslverify, cainfo } = options;
  return {
    program: 'nbdkit',
    package: 'nbdkit',
    args: [
      ...['--foreground', '--readonly', '--unix', socket, '--pidfile', pidFile],
      ...['curl', `url=${location}`, 'protocols=https', `timeout=${timeout ?? 30}`],
      ...(sslverify === 'off' ? ['sslverify=false'] : []),
      ...(cainfo ? [`cainfo=${cainfo}`] : []),
    ],
  };
}
