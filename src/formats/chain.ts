// SPDX-License-Identifier: Apache-2.0
// What an image consists of, found out file by file before anything is opened for good: a header
// is somebody's data, and may name any file of the host. Each format is said, none is guessed; what
// a header names must be a local path whose format is said, too.
import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import * as v from 'valibot';
import { DatapathError, type MediumParts } from '../datapath/datapath.ts';
import { showValue } from '../errors.ts';
import type { ImageNode } from './helper_command.ts';

const CHAIN_MAX = 64;
const OUTPUT_BYTES_MAX = 1024 ** 2;
/** Of images below the top one; QEMU's names. */
const BASE_FORMATS: readonly string[] = ['raw', 'qcow2', 'vmdk', 'vpc', 'vhdx', 'qed', 'qcow'];

const schema = v.object({
  'backing-filename': v.optional(v.string()),
  'backing-filename-format': v.optional(v.string()),
  'full-backing-filename': v.optional(v.string()),
  'format-specific': v.optional(
    v.object({
      data: v.optional(
        v.object({
          'data-file': v.optional(v.string()),
          extents: v.optional(v.array(v.object({ filename: v.string() }))),
        }),
      ),
    }),
  ),
});

type ImageHeader = v.InferOutput<typeof schema>;

export interface Chain {
  /** The top one first. */
  readonly nodes: readonly ImageNode[];
  /** Of the top one: more files beside it, with its data. */
  readonly extents: readonly string[];
  /** Of those that it is based on. */
  readonly baseExtents: readonly string[];
  /** Tells the top file from another of that name. */
  readonly identity: string;
  readonly parts: MediumParts;
}

/** Of a file or device: see NativeBinding. Throws. */
export type FindMedium = (file: string) => { isDevice: boolean; identity: string };

/** Throws DatapathError. `alone`: whatever it is based on is left out. */
export async function readChain(
  driver: string,
  file: string,
  alone: boolean,
  find: FindMedium,
): Promise<Chain> {
  const nodes: ImageNode[] = [];
  const identities: string[] = [];
  const extents: string[][] = [];
  let next: { driver: string; file: string } | undefined = { driver, file };
  while (next) {
    if (nodes.length === CHAIN_MAX) {
      throw invalid(
        `${showValue(file)} is based on more than ${CHAIN_MAX - 1} images, or on itself`,
      );
    }
    const { isDevice, identity } = look(find, next.file);
    identities.push(identity);
    const node: ImageNode = { format: next.driver, path: next.file, isDevice };
    nodes.push(node);
    const header: ImageHeader = node.format === 'raw' ? {} : await readHeader(node);
    extents.push(extentsOf(header, node.path));
    next = alone ? undefined : baseOf(header, next.file);
  }
  const [top, ...bases] = identities;
  const [own = [], ...others] = extents;
  const baseExtents = others.flat();
  const identify = (file: string) => look(find, file).identity;
  const parts = { beside: own.map(identify), bases: [...bases, ...baseExtents.map(identify)] };
  return { nodes, extents: own, baseExtents, identity: `${top} as ${driver}`, parts };
}

function look(find: FindMedium, file: string): ReturnType<FindMedium> {
  try {
    return find(file);
  } catch (error) {
    const { code, message } = error as { code?: unknown; message: string };
    throw typeof code === 'string' ? new DatapathError(code, message) : invalid(message);
  }
}

async function readHeader({ format, path: filename, isDevice }: ImageNode): Promise<ImageHeader> {
  // As JSON, a name with a colon in it is a name all the same; and of a base nothing is opened.
  const protocol = { driver: isDevice ? 'host_device' : 'file', filename };
  const image = `json:${JSON.stringify({ driver: format, file: protocol })}`;
  let stdout: string;
  try {
    const options = { maxBuffer: OUTPUT_BYTES_MAX };
    const args = ['info', '--force-share', '--output=json', image];
    ({ stdout } = await promisify(execFile)('qemu-img', args, options));
  } catch (error) {
    throw infoFailed(error as { code?: unknown; stderr?: string }, filename);
  }
  const parsed = v.safeParse(schema, JSON.parse(stdout));
  if (parsed.success) return parsed.output;
  throw invalid(`qemu-img says of ${showValue(filename)} what is not understood`);
}

function infoFailed(error: { code?: unknown; stderr?: string }, file: string): DatapathError {
  if (error.code === 'ENOENT') return missingProgram('qemu-img', 'qemu-utils');
  const said =
    (error.stderr ?? '')
      .trim()
      .split('\n')
      .at(-1)
      ?.replace(/^qemu-img: /, '') ?? '';
  return new DatapathError('EMEDIUMTYPE', `${showValue(file)} cannot be read: ${said}`);
}

export function missingProgram(program: string, debian: string): DatapathError {
  return new DatapathError(
    'ENOPKG',
    `The program ${program} is not installed: it is in Debian's package ${debian}`,
  );
}

/** What the header says the image is based on; undefined: on nothing. */
export function baseOf(
  header: ImageHeader,
  file: string,
): { driver: string; file: string } | undefined {
  const named = header['backing-filename'];
  if (named === undefined) return undefined;
  const whole = header['full-backing-filename'] ?? named;
  const driver = header['backing-filename-format'];
  if (!whole.startsWith('/')) {
    throw invalid(
      `${showValue(file)} is based on ${showValue(whole)}, which is no file of this host. ` +
        'The option backing=none leaves it out',
    );
  }
  if (driver === undefined) {
    throw invalid(
      `${showValue(file)} is based on ${showValue(whole)} and does not say in which format, and ` +
        'what a guest has written may look like any. Say it: ' +
        'qemu-img rebase -u -F raw -b BASE IMAGE',
    );
  }
  if (BASE_FORMATS.includes(driver)) return { driver, file: whole };
  throw invalid(`${showValue(file)} is based on an image in the format ${showValue(driver)}`);
}

/** Files beside the image with parts of its data; nothing from elsewhere is let in. */
export function extentsOf(header: ImageHeader, file: string): string[] {
  const { data } = header['format-specific'] ?? {};
  if (data?.['data-file'] !== undefined) {
    throw invalid(`${showValue(file)} keeps its data in ${showValue(data['data-file'])}`);
  }
  const others = (data?.extents ?? [])
    .map(({ filename }) => filename)
    .filter((other) => other !== file);
  const folder = path.dirname(file);
  const away = others.find(
    (other) => other.includes(':') || path.dirname(path.resolve(folder, other)) !== folder,
  );
  if (away === undefined) return others.map((other) => path.resolve(folder, other));
  throw invalid(`${showValue(file)} keeps data in ${showValue(away)}, which is not beside it`);
}

export function invalid(what: string): DatapathError {
  return new DatapathError('EMEDIUMTYPE', what);
}
