// SPDX-License-Identifier: Apache-2.0
// The sets of limits on the data path: one of each disk that has its own, one of each group, and
// each of its disks' share of that.
// What a group may is in one file beside the control socket, so that a daemon that dies within a
// change leaves the old figures or the new ones, for all of its disks.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { Logger } from 'pino';
import * as v from 'valibot';
import type { LimitRates } from '../datapath/binding.ts';
import type { Datapath } from '../datapath/datapath.ts';
import { replaceFile } from '../replace_file.ts';
import {
  figuresOf,
  formatLimits,
  hasFigures,
  type LimitFigures,
  type Limits,
  parseLimits,
} from '../target/limits.ts';

const FILE = 'limit-groups.json';
const VERSION = 1;
const schema = v.object({
  version: v.literal(VERSION),
  groups: v.record(v.string(), v.object({ limits: v.string(), isOperators: v.boolean() })),
});

interface Group {
  figures: LimitFigures;
  /** An operator has said so: a toolstack's figures change nothing. */
  isOperators: boolean;
  readonly members: Set<string>;
}

export class LimitSets {
  readonly #datapath: Pick<Datapath, 'setLimits' | 'setShare' | 'dropLimits'>;
  readonly #file: string;
  readonly #log: Logger;
  #isUnrecorded = false;
  /** Of disks that have their own, as text. */
  readonly #own = new Map<string, string>();
  readonly #groups = new Map<string, Group>();

  constructor(
    datapath: Pick<Datapath, 'setLimits' | 'setShare' | 'dropLimits'>,
    runtimeDir: string,
    log: Logger,
  ) {
    this.#datapath = datapath;
    this.#file = path.join(runtimeDir, FILE);
    this.#log = log;
    this.#read();
  }

  /** What holds for this disk from now on. Returns the set's name for the data path; "": none. */
  use(vbd: string, limits: Limits | undefined): string {
    const { group } = limits ?? {};
    this.#leaveGroups(vbd, group);
    if (limits && group !== undefined) {
      this.#dropOwn(vbd);
      const joined = this.#group(group);
      joined.members.add(vbd);
      if (hasFigures(limits) && !joined.isOperators) this.#set(group, limits, false);
      this.#datapath.setShare(shareName(vbd), setName(group), limits.weight ?? 1);
      return shareName(vbd);
    }
    if (!limits || !hasFigures(limits)) {
      this.#dropOwn(vbd);
      return '';
    }
    const text = formatLimits(limits);
    if (this.#own.get(vbd) !== text) this.#datapath.setLimits(vbd, ratesOf(limits));
    this.#own.set(vbd, text);
    return vbd;
  }

  /** The disk is gone. */
  leave(vbd: string): void {
    this.#leaveGroups(vbd, undefined);
    this.#dropOwn(vbd);
  }

  /** undefined: nobody is in it, nor has been. */
  figures(group: string): LimitFigures | undefined {
    return this.#groups.get(group)?.figures;
  }

  members(group: string): string[] {
    return [...(this.#groups.get(group)?.members ?? [])];
  }

  isOperators(group: string): boolean {
    return this.#groups.get(group)?.isOperators === true;
  }

  /** What groups may was not written down the last time: a restart would forget it. */
  get isUnrecorded(): boolean {
    return this.#isUnrecorded;
  }

  /** By an operator. */
  setGroup(group: string, figures: LimitFigures): void {
    this.#set(group, figures, true);
  }

  /** The next figures of a toolstack hold. */
  resetGroup(group: string): void {
    const known = this.#groups.get(group);
    if (known) this.#set(group, known.figures, false);
  }

  #group(name: string): Group {
    const known = this.#groups.get(name);
    if (known) return known;
    const group = { figures: {}, isOperators: false, members: new Set<string>() };
    this.#groups.set(name, group);
    this.#datapath.setLimits(setName(name), ratesOf({}));
    return group;
  }

  #set(name: string, limits: Limits, isOperators: boolean): void {
    const group = this.#group(name);
    const figures = figuresOf(limits);
    const isSame = formatLimits(figures) === formatLimits(group.figures);
    if (isSame && group.isOperators === isOperators) return;
    group.figures = figures;
    group.isOperators = isOperators;
    this.#datapath.setLimits(setName(name), ratesOf(figures));
    this.#write();
  }

  #leaveGroups(vbd: string, but: string | undefined): void {
    for (const [name, { members }] of this.#groups) {
      if (name === but || !members.delete(vbd)) continue;
      this.#datapath.dropLimits(shareName(vbd));
      if (members.size > 0) continue;
      this.#groups.delete(name);
      this.#datapath.dropLimits(setName(name));
      this.#write();
    }
  }

  #dropOwn(vbd: string): void {
    if (this.#own.delete(vbd)) this.#datapath.dropLimits(vbd);
  }

  /** A daemon before has left it. */
  #read(): void {
    try {
      const { groups } = v.parse(schema, JSON.parse(readFileSync(this.#file, 'utf8')));
      for (const [name, { limits, isOperators }] of Object.entries(groups)) {
        const figures = parseLimits(limits);
        if (typeof figures === 'string') continue;
        this.#groups.set(name, { figures: figuresOf(figures), isOperators, members: new Set() });
        this.#datapath.setLimits(setName(name), ratesOf(figures));
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
      this.#log.error({ file: this.#file, err: error }, 'the limits of groups cannot be read');
    }
  }

  #write(): void {
    const groups = [...this.#groups].map(([name, { figures, isOperators }]) => {
      return [name, { limits: formatLimits(figures), isOperators }] as const;
    });
    try {
      const whole = { version: VERSION, groups: Object.fromEntries(groups) };
      replaceFile(this.#file, JSON.stringify(whole));
      this.#isUnrecorded = false;
    } catch (error) {
      this.#isUnrecorded = true;
      const message = 'the limits of groups cannot be recorded: a restart would forget them';
      this.#log.error({ file: this.#file, err: error }, message);
    }
  }
}

/** No disk is called so. */
function setName(group: string): string {
  return `group ${group}`;
}

/** Of a disk in a group. */
function shareName(vbd: string): string {
  return `share ${vbd}`;
}

function ratesOf(limits: LimitFigures): LimitRates {
  const none = { iops: 0, readIops: 0, writeIops: 0, bps: 0, readBps: 0, writeBps: 0 };
  return { ...none, burst: 0, burstBytes: 0, ...figuresOf(limits) };
}
