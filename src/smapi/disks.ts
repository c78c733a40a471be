// SPDX-License-Identifier: Apache-2.0
// Which volumes are attached and activated for whom. It holds as long as the host runs, like what
// it tells of, so it is kept where the daemon keeps its own: a manager that comes after goes on.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import * as v from 'valibot';
import { replaceFile } from '../replace_file.ts';

const MODES = ['write', 'read'] as const;

const diskSchema = v.strictObject({
  /** Of the volume that is served: the export's name, and its mark in xenstore. */
  uuid: v.string(),
  /** It is a snapshot. */
  readOnly: v.boolean(),
  attached: v.array(v.string()),
  active: v.array(v.strictObject({ domain: v.string(), mode: v.picklist(MODES) })),
  /** The key of a clone that is served instead, and forgotten at the end of the VM's life. */
  transient: v.optional(v.string()),
  /** What it is mirrored to, by the name of its disk. */
  mirror: v.optional(v.string()),
});

const fileSchema = v.strictObject({
  version: v.literal(1),
  disks: v.record(v.string(), diskSchema),
});

export type DiskState = v.InferOutput<typeof diskSchema>;

export class Disks {
  readonly #file: string;
  readonly #all: Map<string, DiskState>;

  /** Throws where what was kept cannot be read: what is in use is not known then. */
  constructor(runtimeDir: string) {
    this.#file = path.join(runtimeDir, 'smapi.json');
    this.#all = new Map(Object.entries(read(this.#file)));
  }

  /** By the volume's URI. */
  get(uri: string): DiskState | undefined {
    return this.#all.get(uri);
  }

  all(): [uri: string, state: DiskState][] {
    return [...this.#all];
  }

  /** Kept before it is done, so that whoever comes after a death knows of it. */
  set(uri: string, state: DiskState): void {
    const isIdle = state.attached.length + state.active.length === 0;
    if (isIdle && state.transient === undefined) this.#all.delete(uri);
    else this.#all.set(uri, state);
    const disks = Object.fromEntries(this.#all);
    replaceFile(this.#file, JSON.stringify({ version: 1, disks }));
  }
}

function read(file: string): Record<string, DiskState> {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw error;
  }
  return v.parse(fileSchema, JSON.parse(text)).disks;
}
