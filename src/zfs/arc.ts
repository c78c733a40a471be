// SPDX-License-Identifier: Apache-2.0
// The limit of ZFS's cache in memory (ARC): as the module has it, and as it is kept for the next
// start in a file of modprobe's. Left to itself it takes most of dom0's memory.
import { chmodSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { replaceFile } from '../replace_file.ts';

const MIB = 1024 ** 2;
/** ZFS takes no less. */
const LIMIT_MIN = 64 * MIB;
/** What dom0 needs for itself, before ZFS gets half of the rest. */
const OWN_BYTES = 1024 * MIB;
const SUGGESTED_MIN = 256 * MIB;
const TAKEN_MS = 3000;
const LOOK_MS = 50;
/** Read after others: the last one counts. */
const FILE = 'zz-ringdisk-arc.conf';
const OPTION = /^\s*options\s+zfs\s(?:.*\s)?zfs_arc_max=(\d{1,20})(?:\s|$)/;

export interface ArcState {
  memoryBytes: number;
  suggestedBytes: number;
  /** Missing where ZFS's module is not loaded. */
  loaded?: { sizeBytes: number; limitBytes: number; minimumBytes: number };
  /** By ringdisk, for the next start of the module. */
  kept?: { file: string; bytes: number };
  /** Sentences: what an operator should know. */
  warnings: string[];
}

/** With the reason as its message. */
export class ArcError extends Error {}

/** `root`: where the system's folders are, for tests. */
export class Arc {
  readonly #parameter: string;
  readonly #stats: string;
  readonly #meminfo: string;
  readonly #folder: string;
  readonly #initialDisks: string[];

  constructor(root = '/') {
    this.#parameter = path.join(root, 'sys/module/zfs/parameters/zfs_arc_max');
    this.#stats = path.join(root, 'proc/spl/kstat/zfs/arcstats');
    this.#meminfo = path.join(root, 'proc/meminfo');
    this.#folder = path.join(root, 'etc/modprobe.d');
    this.#initialDisks = [
      path.join(root, 'usr/share/initramfs-tools/hooks/zfs'),
      path.join(root, 'usr/lib/dracut/modules.d/90zfs'),
    ];
  }

  get #file(): string {
    return path.join(this.#folder, FILE);
  }

  read(): ArcState {
    const memoryBytes = readMemory(this.#meminfo);
    const loaded = this.#loaded();
    const kept = optionIn(readText(this.#file));
    return {
      memoryBytes,
      suggestedBytes: suggested(memoryBytes),
      ...(loaded && { loaded }),
      ...(kept !== undefined && { kept: { file: this.#file, bytes: kept } }),
      warnings: this.#warnings(loaded, kept),
    };
  }

  /** Throws ArcError where ZFS would not take it, or has not. */
  async set(bytes: number): Promise<ArcState> {
    const { memoryBytes, loaded } = this.read();
    const least = Math.max(LIMIT_MIN, (loaded?.minimumBytes ?? 0) + 1);
    if (!Number.isSafeInteger(bytes) || bytes < least || bytes >= memoryBytes) {
      throw new ArcError(
        `ZFS's cache cannot be limited to ${inMib(bytes)} MiB: at least ` +
          `${Math.ceil(least / MIB)} MiB, and less than the ${inMib(memoryBytes)} MiB of memory`,
      );
    }
    // What was in force before all of it, for the way back.
    const before = this.#before() ?? loaded?.limitBytes;
    this.#keep(bytes, before);
    if (loaded) await this.#apply(bytes);
    return this.read();
  }

  /** Takes back what was set. Done also where nothing was. */
  async unset(): Promise<ArcState> {
    const before = this.#before();
    const wasSet = existsSync(this.#file);
    if (before !== undefined && this.#loaded()) await this.#apply(before);
    rmSync(this.#file, { force: true });
    const state = this.read();
    if (!wasSet || before !== undefined || !state.loaded) return state;
    const warning = "What the module's limit was before is not known: it stays until it is loaded";
    return { ...state, warnings: [...state.warnings, `${warning} again.`] };
  }

  #loaded(): ArcState['loaded'] {
    const text = readText(this.#stats);
    if (text === undefined || !existsSync(this.#parameter)) return undefined;
    const value = (name: string) => {
      const [, number] = new RegExp(`^${name}\\s+\\d+\\s+(\\d+)$`, 'm').exec(text) ?? [];
      return Number(number ?? 0);
    };
    return { sizeBytes: value('size'), limitBytes: value('c_max'), minimumBytes: value('c_min') };
  }

  async #apply(bytes: number): Promise<void> {
    writeFileSync(this.#parameter, `${bytes}\n`);
    for (let waited = 0; waited < TAKEN_MS; waited += LOOK_MS) {
      if (this.#loaded()?.limitBytes === bytes) return;
      await sleep(LOOK_MS);
    }
    throw new ArcError(
      `ZFS's module has not taken ${inMib(bytes)} MiB as its limit; its reason is in the ` +
        "kernel's log. At its next start it is asked again.",
    );
  }

  #keep(bytes: number, before: number | undefined): void {
    const lines = [
      '# Written by "ringdisk pool arc"; "ringdisk pool arc --unset" takes it back.',
      ...(before === undefined ? [] : [`# limit before: ${before}`]),
      `options zfs zfs_arc_max=${bytes}`,
    ];
    replaceFile(this.#file, `${lines.join('\n')}\n`);
    chmodSync(this.#file, 0o644);
  }

  #before(): number | undefined {
    const [, number] = /^# limit before: (\d{1,16})$/m.exec(readText(this.#file) ?? '') ?? [];
    return number === undefined ? undefined : Number(number);
  }

  #warnings(loaded: ArcState['loaded'], kept: number | undefined): string[] {
    const warnings: string[] = [];
    for (const name of readFolder(this.#folder)) {
      const bytes = optionIn(readText(path.join(this.#folder, name)));
      if (name === FILE || bytes === undefined) continue;
      const file = path.join(this.#folder, name);
      const isLast = kept !== undefined && name > FILE;
      warnings.push(
        `${file} sets ${inMib(bytes)} MiB${isLast ? ', and is read after ours: that counts' : ''}.`,
      );
    }
    if (loaded && loaded.sizeBytes > loaded.limitBytes) {
      warnings.push(
        `It holds ${inMib(loaded.sizeBytes)} MiB, and gives them back as memory is needed.`,
      );
    }
    if (kept !== undefined && this.#initialDisks.some((file) => existsSync(file))) {
      warnings.push(
        'ZFS is loaded from the initial RAM disk here, which has to be made anew: ' +
          'update-initramfs -u, or dracut --force.',
      );
    }
    return warnings;
  }
}

/** Half of what dom0 does not need for itself. */
export function suggested(memoryBytes: number): number {
  const half = Math.floor((memoryBytes - OWN_BYTES) / 2 / MIB) * MIB;
  return Math.max(half, SUGGESTED_MIN);
}

export function inMib(bytes: number): number {
  return Math.round(bytes / MIB);
}

/** The last one of a file counts. */
function optionIn(text: string | undefined): number | undefined {
  const lines = (text ?? '').split('\n').map((line) => OPTION.exec(line)?.[1]);
  const last = lines.findLast((number) => number !== undefined);
  return last === undefined ? undefined : Number(last);
}

function readMemory(file: string): number {
  const [, kib] = /^MemTotal:\s+(\d+) kB$/m.exec(readText(file) ?? '') ?? [];
  if (kib !== undefined) return Number(kib) * 1024;
  throw new ArcError(`${file} does not say how much memory there is`);
}

function readText(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}

function readFolder(folder: string): string[] {
  try {
    return readdirSync(folder).filter((name) => name.endsWith('.conf'));
  } catch {
    return [];
  }
}
