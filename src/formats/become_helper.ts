// SPDX-License-Identifier: Apache-2.0
// A process between a daemon that asks for an image and the program that will serve it: it looks at
// the image, which may take for ever, says what it found, and becomes that program. So the number
// that the daemon is told stays right, and nothing but the program's end ends it.
import { accessSync, constants, readSync, statSync, writeSync } from 'node:fs';
import path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import * as v from 'valibot';
import { native } from '../datapath/binding.ts';
import { DatapathError } from '../datapath/datapath.ts';
import { RingdiskError, showValue } from '../errors.ts';
import { SOCKET_PATH_BYTES_MAX } from '../unix_socket.ts';
import { type Chain, invalid, missingProgram, readChain } from './chain.ts';
import { driverOf, helperCommand, isFileFormat } from './helper_command.ts';
import {
  type HelperFiles,
  helperFiles,
  helperKey,
  imagesFolder,
  makeHelperFolder,
  readHelperRecord,
  removeHelperFiles,
  startOfProcess,
  writeHelperRecord,
} from './helper_record.ts';
import {
  GO_ON,
  type HelperAnswer,
  type HelperRequest,
  helperRequestSchema,
  LINE_BYTES_MAX,
} from './helper_request.ts';
import { type ImageSpec, imagePath, PATH_OPTIONS, parseImagePath } from './image_spec.ts';

const STDIN = 0;
const STDOUT = 1;
const NEWLINE = 10;
const LOOK_MS = 10;
/** Sockets and process files are for our eyes only, whoever makes them. */
const UMASK = 0o177;

/** Of what lies elsewhere. */
const NOTHING_HERE = {
  nodes: [],
  extents: [],
  baseExtents: [],
  parts: { beside: [], bases: [] },
} as const;

/** Never returns where it works: this process is another program then. */
export async function becomeHelper(): Promise<void> {
  const request = readRequest();
  try {
    await become(request);
  } catch (error) {
    const { message } = error as Error;
    answer({ error: { code: codeOf(error), message } });
    // Whoever has had an answer reads it here.
    console.error(message);
    process.exitCode = 1;
  }
}

async function become(request: HelperRequest): Promise<void> {
  const spec = parseImagePath(request.format, request.image);
  const files = begin(request);
  try {
    await serve(request, spec, files);
  } catch (error) {
    removeHelperFiles(files);
    throw error;
  }
}

async function serve(request: HelperRequest, spec: ImageSpec, files: HelperFiles): Promise<void> {
  const chain = await examine(spec);
  refuseAnother(request, spec, chain);
  const { readOnly } = request;
  const command = helperCommand(spec, chain.nodes, readOnly, files);
  const program = findProgram(command.program, command.package);
  writeHelperRecord(files, {
    pid: process.pid,
    startedAt: startOfProcess('self') ?? '',
    program: command.program,
    format: spec.format,
    image: imagePath(spec),
    readOnly,
    identity: chain.identity,
    parts: { beside: [...chain.parts.beside], bases: [...chain.parts.bases] },
    nodes: [...chain.nodes],
  });
  const helper = readHelperRecord(files);
  if (!helper) throw new Error(`the record ${files.record} cannot be read`);
  answer({ helper });
  // A daemon that has died meanwhile wants nothing.
  if (readLine() !== GO_ON) throw new Error('the daemon that asked for it has ended');
  process.umask(UMASK);
  const args = [command.program, ...command.args];
  native.becomeHelper({ program, args, folder: files.folder, ...access(spec, chain, readOnly) });
}

/** A guest that goes on knows what it has read of its image, and of what that is based on. */
function refuseAnother({ identity, parts }: HelperRequest, spec: ImageSpec, chain: Chain): void {
  if (identity === undefined) return;
  const name = showValue(spec.location);
  if (identity !== chain.identity) {
    throw invalid(
      `${name} is another image than the one its guest uses (${chain.identity}, not ` +
        `${identity}). Put the right one back under that name`,
    );
  }
  if (parts === undefined || isDeepStrictEqual(parts, chain.parts)) return;
  throw invalid(
    `${name} is based on another image than when its guest began to use it. Put the right ones ` +
      'back under their names',
  );
}

function begin({ runtimeDir, format, image, readOnly }: HelperRequest): HelperFiles {
  const folder = imagesFolder(runtimeDir);
  const files = helperFiles(folder, helperKey(format, image, readOnly));
  if (Buffer.byteLength(files.socket) > SOCKET_PATH_BYTES_MAX) {
    const { socket } = files;
    throw new DatapathError(
      'ENAMETOOLONG',
      `${socket}: too long for a socket, use a shorter --runtime-dir`,
    );
  }
  if (!native.beginHelper(files.log, files.lock)) {
    throw new DatapathError('EBUSY', 'another process serves this image, or is about to end it');
  }
  makeHelperFolder(files);
  return files;
}

async function examine({ format, location, options }: ImageSpec): Promise<Chain> {
  if (!isFileFormat(format)) {
    return { ...NOTHING_HERE, identity: `${format} ${location}` };
  }
  return readChain(driverOf(format), location, options['backing'] === 'none', native.findMedium);
}

function access(
  { format, options }: ImageSpec,
  { nodes, extents, baseExtents }: Chain,
  readOnly: boolean,
): { readable: string[]; writable: string[]; network: boolean } {
  const [top, ...bases] = nodes.map(({ path: file }) => file);
  const own = [...(top === undefined ? [] : [top]), ...extents];
  const named = PATH_OPTIONS.flatMap((key) => options[key] ?? []);
  return {
    readable: [...bases, ...baseExtents, ...named, ...(readOnly ? own : [])],
    writable: readOnly ? [] : own,
    network: !isFileFormat(format),
  };
}

/** As execvp(3) would. */
function findProgram(program: string, debian: string): string {
  const folders = (process.env['PATH'] ?? '').split(':').filter((folder) => folder.startsWith('/'));
  const found = folders.map((folder) => path.join(folder, program)).find(isProgram);
  if (found !== undefined) return found;
  throw missingProgram(program, debian);
}

function isProgram(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}

function readRequest(): HelperRequest {
  const parsed = v.safeParse(helperRequestSchema, JSON.parse(readLine()));
  if (parsed.success) return parsed.output;
  throw new RingdiskError('TARGET_INVALID', 'This command is for the daemon to start.');
}

/** With its end; without one, whoever speaks has ended before. Each line is waited for. */
function readLine(): string {
  const bytes = Buffer.alloc(LINE_BYTES_MAX);
  let length = 0;
  while (length < bytes.length && bytes[length - 1] !== NEWLINE) {
    const count = readOrWait(bytes.subarray(length));
    if (count === 0) break;
    length += count;
  }
  return bytes.toString('utf8', 0, length);
}

/** Whoever accepts a connection for us may leave it without waiting, as systemd's tools do. */
function readOrWait(bytes: Uint8Array): number {
  for (;;) {
    try {
      return readSync(STDIN, bytes, 0, bytes.length, null);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
    }
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, LOOK_MS);
  }
}

function answer(line: HelperAnswer): void {
  try {
    writeSync(STDOUT, `${JSON.stringify(line)}\n`);
  } catch {
    // A daemon that is gone: the next one finds the record.
  }
}

function codeOf(error: unknown): string {
  const { code } = error as { code?: unknown };
  return typeof code === 'string' ? code : 'EIO';
}
