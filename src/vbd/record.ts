// SPDX-License-Identifier: Apache-2.0
// What a daemon writes down about a VBD while it serves it, for the one that comes after it: one
// small file per VBD beside its journals. Only root can write there, so unlike a guest's nodes it
// is believed; that it is still about the same rings is checked against xenstore (reattach.ts).
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import * as v from 'valibot';
import type { OnError } from '../datapath/binding.ts';
import type { MediumParts } from '../datapath/datapath.ts';
import { IMAGE_FORMATS } from '../formats/image_spec.ts';
import { replaceFile, TEMPORARY_SUFFIX } from '../replace_file.ts';
import { parseLimits } from '../target/limits.ts';
import { ON_ERROR, type TargetSpec } from '../target/target_spec.ts';
import { parseDevid, parseDomid } from '../xenstore/paths.ts';
import type { VbdId } from './id.ts';
import type { Agreement } from './negotiate.ts';

/** What this daemon writes. The version before is read, too, so that hosts can move on. */
export const RECORD_VERSION = 2;
export const RECORD_VERSIONS_READ: readonly number[] = [RECORD_VERSION - 1, RECORD_VERSION];

const QUEUES_MAX = 16;

const uint32 = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(0xffff_ffff));
const upTo = (max: number) => v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(max));

const queueSchema = v.strictObject({
  ringRefs: v.pipe(v.array(uint32), v.minLength(1), v.maxLength(16)),
  eventChannel: uint32,
});

const targetEntries = {
  /** As the toolstack wrote it, and what it turned out to be. */
  params: v.string(),
  kind: v.picklist(['file', 'block', 'nvme', 'null', 'fill', 'nbd', ...IMAGE_FORMATS]),
  path: v.string(),
  readOnly: v.boolean(),
} as const;

/** A mirror that goes on, or has failed. */
/** Of an image: what it lies on besides itself. */
const texts = v.pipe(v.array(v.string()), v.readonly());
const partsSchema = v.strictObject({ beside: texts, bases: texts });

const mirrorSchema = v.strictObject({
  /** Its target, as it was asked for and turned out to be. */
  params: v.string(),
  kind: targetEntries.kind,
  path: v.string(),
  identity: v.string(),
  parts: v.optional(partsSchema),
  mode: v.picklist(['copy', 'sync']),
  paused: v.boolean(),
  rate: upTo(Number.MAX_SAFE_INTEGER),
  switchWhenReady: v.boolean(),
  failure: v.optional(v.string()),
});
export type MirrorRecord = v.InferOutput<typeof mirrorSchema>;

const commonEntries = {
  /** The process that wrote it. */
  pid: upTo(Number.MAX_SAFE_INTEGER),
  // The frontend goes on with what it was promised, whatever the configuration says by now.
  agreement: v.strictObject({
    abi: v.picklist(['native', 'x86_32', 'x86_64']),
    queues: v.pipe(v.array(queueSchema), v.minLength(1), v.maxLength(QUEUES_MAX)),
    ringPageOrder: upTo(4),
    grants: v.picklist(['persistent', 'copy', 'map']),
    indirectSegmentsMax: upTo(256),
    readOnly: v.boolean(),
    discard: v.boolean(),
    secureDiscard: v.boolean(),
  }),
  /** The capacity that the guest was told, in units of 512 bytes. */
  sectors: upTo(Number.MAX_SAFE_INTEGER),
} as const;

const schema = v.strictObject({
  version: v.literal(RECORD_VERSION),
  target: v.strictObject({
    ...targetEntries,
    share: v.boolean(),
    /** Another medium under the same path is not the guest's. */
    identity: v.string(),
    /** It is what the toolstack's was mirrored to. */
    isSwitched: v.optional(v.literal(true)),
    parts: v.optional(partsSchema),
  }),
  mirror: v.optional(mirrorSchema),
  onError: v.picklist(ON_ERROR),
  /** An operator's word; missing: he has said nothing. */
  limits: v.optional(
    v.pipe(
      v.string(),
      v.check((text) => text === 'none' || typeof parseLimits(text) !== 'string', 'no limits'),
    ),
  ),
  ...commonEntries,
});

/** It knew no identity, so none is compared, and what becomes of errors the configuration says. */
const schemaBefore = v.strictObject({
  version: v.literal(RECORD_VERSION - 1),
  target: v.strictObject(targetEntries),
  ...commonEntries,
});

export interface VbdRecord {
  readonly pid: number;
  readonly target: TargetSpec & {
    readonly params: string;
    readonly readOnly: boolean;
    readonly share: boolean;
    /** undefined: not known. */
    readonly identity: string | undefined;
    readonly isSwitched?: true | undefined;
    readonly parts?: MediumParts | undefined;
  };
  readonly mirror?: MirrorRecord | undefined;
  /** undefined: not known. */
  readonly onError: OnError | undefined;
  readonly limits?: string | undefined;
  readonly agreement: Agreement;
  readonly sectors: number;
}

/** What is known of a VBD that is connected now. */
export interface VbdFacts extends Omit<VbdRecord, 'pid'> {
  readonly target: VbdRecord['target'] & { readonly identity: string };
  readonly onError: OnError;
}

const RECORD_NAME = /^([A-Za-z0-9_-]{1,32})-([0-9]{1,5})-([0-9]{1,10})\.json$/;
const RECORD_SUFFIX = '.json';
const STATS_SUFFIX = '.stats';
/** How many daemons crashed while they took the VBD over, and that one is at it. */
const DEATHS_SUFFIX = '.deaths';
const TRIAL_SUFFIX = '.trial';
const MIRROR_SUFFIX = '.mirror';
const COMPANION_NAME = /^(.*)\.(?:queue-[0-9]+(?:\.stats)?|deaths|trial|mirror)$/;
const CRASH_NOTE = 'crashed';

/** The records and journals of one runtime directory, which one daemon owns at a time. */
export class Records {
  readonly #folder: string;
  /** Left by a daemon that crashed, but not by one that was killed. */
  readonly crashNote: string;

  /** Makes the folder if it is not there. */
  constructor(runtimeDir: string) {
    this.#folder = recordsFolder(runtimeDir);
    this.crashNote = crashNotePath(runtimeDir);
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
  }

  /** The VBDs that have one, readable or not. */
  list(): VbdId[] {
    return readdirSync(this.#folder)
      .map(parseRecordName)
      .filter((id) => id !== undefined);
  }

  /** Removes what a death at a bad moment left over. Call it before anything is connected. */
  tidy(): void {
    const names = new Set(readdirSync(this.#folder));
    for (const name of names) {
      const [, companionOf] = COMPANION_NAME.exec(name) ?? [];
      const isOrphan = companionOf !== undefined && !names.has(companionOf + RECORD_SUFFIX);
      if (isOrphan || name.endsWith(TEMPORARY_SUFFIX)) rmSync(path.join(this.#folder, name));
    }
    this.#countDeaths();
  }

  has(id: VbdId): boolean {
    return existsSync(this.#file(id));
  }

  /** undefined: there is none. Throws an Error whose message says why it cannot be used. */
  read(id: VbdId): VbdRecord | undefined {
    let text: string;
    try {
      text = readFileSync(this.#file(id), 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
    return parseRecord(text);
  }

  write(id: VbdId, facts: VbdFacts): void {
    const whole = { version: RECORD_VERSION, pid: process.pid, ...facts };
    replaceFile(this.#file(id), JSON.stringify(whole));
  }

  /** The take-overs under way when the daemon before crashed: one of them may be to blame. */
  #countDeaths(): void {
    const hasCrashed = existsSync(this.crashNote);
    for (const id of this.list()) {
      if (!existsSync(this.#companion(id, TRIAL_SUFFIX))) continue;
      if (hasCrashed) this.setDeaths(id, this.deaths(id) + 1);
      this.endTrial(id);
    }
    rmSync(this.crashNote, { force: true });
  }

  /** Whoever crashes from here on may have done so because of this VBD. */
  beginTrial(id: VbdId): void {
    try {
      writeFileSync(this.#companion(id, TRIAL_SUFFIX), '', { mode: 0o600 });
    } catch {
      // Where there is no room for it, nothing is known of the deaths.
    }
  }

  endTrial(id: VbdId): void {
    rmSync(this.#companion(id, TRIAL_SUFFIX), { force: true });
  }

  /** How many daemons in a row crashed while they took it over; see take_overs.ts. */
  deaths(id: VbdId): number {
    try {
      return Number.parseInt(readFileSync(this.#companion(id, DEATHS_SUFFIX), 'utf8'), 10) || 0;
    } catch {
      return 0;
    }
  }

  /** As write(). Where there is no room for it, nothing is known of the deaths. */
  setDeaths(id: VbdId, deaths: number): void {
    const file = this.#companion(id, DEATHS_SUFFIX);
    if (deaths === 0) {
      rmSync(file, { force: true });
      return;
    }
    try {
      replaceFile(file, String(deaths));
    } catch {
      rmSync(file + TEMPORARY_SUFFIX, { force: true });
    }
  }

  /** The record first: journals without one are nobody's. */
  remove(id: VbdId): void {
    rmSync(this.#file(id), { force: true });
    rmSync(this.#companion(id, DEATHS_SUFFIX), { force: true });
    rmSync(this.#companion(id, TRIAL_SUFFIX), { force: true });
    // By name: a folder with a thousand disks' files is not to be listed for each of them.
    for (let queue = 0; queue < QUEUES_MAX; queue++) {
      const journal = this.journal(id, queue);
      for (const file of [journal, journal + STATS_SUFFIX]) {
        if (existsSync(file)) rmSync(file, { force: true });
      }
    }
  }

  /** Of the chunks that a mirror's destination may lack; it ends with the record. */
  mirrorMap(id: VbdId): string {
    return this.#companion(id, MIRROR_SUFFIX);
  }

  /**
   * The path of a queue's journal; the data path makes and removes the file. Beside it, with
   * ".stats" behind its name, is the queue's stats page.
   */
  journal(id: VbdId, queue: number): string {
    return path.join(this.#folder, `${fileName(id)}.queue-${queue}`);
  }

  #companion(id: VbdId, suffix: string): string {
    return path.join(this.#folder, fileName(id) + suffix);
  }

  #file(id: VbdId): string {
    return path.join(this.#folder, fileName(id) + RECORD_SUFFIX);
  }
}

/** Where they are; for those who only read. */
export function recordsFolder(runtimeDir: string): string {
  return path.join(runtimeDir, 'vbds');
}

/** The file by which a daemon that crashes says so. */
export function crashNotePath(runtimeDir: string): string {
  return path.join(runtimeDir, CRASH_NOTE);
}

function parseRecord(text: string): VbdRecord {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Error('the record of the daemon that served it is no JSON');
  }
  const { version } = (value ?? {}) as { version?: unknown };
  if (typeof version === 'number' && !RECORD_VERSIONS_READ.includes(version)) {
    throw new Error(
      `the record of the daemon that served it has version ${version}, this daemon reads ` +
        `${RECORD_VERSIONS_READ.join(' and ')}: start the version of ringdisk that served it`,
    );
  }
  if (version === RECORD_VERSION) return checked(schema, value);
  const before = checked(schemaBefore, value);
  const target = { ...before.target, share: false, identity: undefined };
  return { ...before, target, onError: undefined };
}

function checked<T>(expected: v.GenericSchema<unknown, T>, value: unknown): T {
  const parsed = v.safeParse(expected, value);
  if (parsed.success) return parsed.output;
  const [issue] = parsed.issues;
  throw new Error(
    'the record of the daemon that served it cannot be used: ' +
      `${v.getDotPath(issue) ?? 'it'}: ${issue.message}`,
  );
}

function fileName({ kind, domid, devid }: VbdId): string {
  return `${kind}-${domid}-${devid}`;
}

/** undefined: it is no record's. */
export function parseRecordName(name: string): VbdId | undefined {
  const [, kind = '', domidText = '', devidText = ''] = RECORD_NAME.exec(name) ?? [];
  const domid = parseDomid(domidText);
  const devid = parseDevid(devidText);
  return domid === undefined || devid === undefined ? undefined : { kind, domid, devid };
}
