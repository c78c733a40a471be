// SPDX-License-Identifier: Apache-2.0
// What there is of a helper in the runtime directory. It outlives the daemon that asked for it: the
// next one finds it here. The helper writes its record before it becomes the other program, which
// changes neither its number nor its start, so there is none without a record. It cannot write
// there any more afterwards: what it makes itself lies in a folder of its own.
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import * as v from 'valibot';
import { replaceFile } from '../replace_file.ts';
import { IMAGE_FORMATS } from './image_spec.ts';

const VERSION = 1;
const KEY = /^[0-9a-f]{16}$/;
const SUFFIX = '.json';

const nodeSchema = v.object({ format: v.string(), path: v.string(), isDevice: v.boolean() });

export const partsSchema = v.object({
  beside: v.array(v.string()),
  bases: v.array(v.string()),
});

const entries = {
  pid: v.pipe(v.number(), v.integer(), v.minValue(1)),
  /** Of the process, in ticks since the host's: a number may be given again. */
  startedAt: v.string(),
  program: v.string(),
  format: v.picklist(IMAGE_FORMATS),
  /** See imagePath(). */
  image: v.string(),
  readOnly: v.boolean(),
  /** Tells the image from another of that name. */
  identity: v.string(),
  /** undefined: not known. */
  parts: v.optional(partsSchema),
  nodes: v.array(nodeSchema),
} as const;

export const helperRecordSchema = v.object({ version: v.literal(VERSION), ...entries });
export type HelperRecord = v.InferOutput<typeof helperRecordSchema>;

export interface HelperFiles {
  readonly folder: string;
  readonly socket: string;
  readonly pidFile: string;
  readonly log: string;
  readonly lock: string;
  readonly record: string;
}

export function imagesFolder(runtimeDir: string): string {
  return path.join(runtimeDir, 'images');
}

/** The same for all that may be served by one helper. */
export function helperKey(format: string, image: string, readOnly: boolean): string {
  const text = JSON.stringify([format, image, readOnly]);
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

export function helperFiles(folder: string, key: string): HelperFiles {
  const own = path.join(folder, key);
  return {
    folder: own,
    socket: path.join(own, 'nbd.sock'),
    pidFile: path.join(own, 'pid'),
    log: path.join(folder, `${key}.log`),
    lock: path.join(folder, `${key}.lock`),
    record: path.join(folder, key + SUFFIX),
  };
}

/** The caller has the lock: what lies there is a dead one's. */
export function makeHelperFolder({ folder, record }: HelperFiles): void {
  rmSync(record, { force: true });
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { mode: 0o700 });
}

export function writeHelperRecord(files: HelperFiles, record: Omit<HelperRecord, 'version'>): void {
  replaceFile(files.record, JSON.stringify({ version: VERSION, ...record }));
}

/** undefined: there is none, or none of this version. */
export function readHelperRecord({ record }: HelperFiles): HelperRecord | undefined {
  try {
    const parsed = v.safeParse(helperRecordSchema, JSON.parse(readFileSync(record, 'utf8')));
    return parsed.success ? parsed.output : undefined;
  } catch {
    return undefined;
  }
}

/** Its process has ended. The lock's file stays: somebody may be about to take it. */
export function removeHelperFiles({ folder, log, record }: HelperFiles): void {
  for (const file of [record, log]) rmSync(file, { force: true });
  rmSync(folder, { recursive: true, force: true });
}

/** By key. */
export function listHelpers(folder: string): string[] {
  try {
    const names = readdirSync(folder).filter((name) => name.endsWith(SUFFIX));
    return names.map((name) => name.slice(0, -SUFFIX.length)).filter((name) => KEY.test(name));
  } catch {
    return [];
  }
}

/** "12345", of a process; undefined: it has ended. */
export function startOfProcess(pid: number | 'self'): string | undefined {
  try {
    const status = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // Behind the name, which may be anything: the state, then 18 numbers.
    const fields = status.slice(status.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}
