// SPDX-License-Identifier: Apache-2.0
// Which limits hold for a disk: an operator's word, or else the toolstack's node, or else what
// stands before its target. The first of them counts, whole.
import { RingdiskError, showValue } from '../errors.ts';
import {
  figuresOf,
  formatLimits,
  hasFigures,
  invalidLimits,
  type LimitFigures,
  type Limits,
  limitProblem,
  mergeLimits,
  parseLimits,
} from '../target/limits.ts';
import { targetLimits } from '../target/target_spec.ts';
import type { Device, View } from './device.ts';
import { vbdName } from './id.ts';
import type { LimitSets } from './limit_sets.ts';

export type LimitSource = 'operator' | 'xenstore' | 'target';

/** As it is shown. */
export interface LimitInfo extends LimitFigures {
  readonly group?: string;
  /** In its group; missing: 1. */
  readonly weight?: number;
  /** The other disks of the group, by name. */
  readonly sharedWith?: readonly string[];
  readonly from: LimitSource;
}

/** What an operator asks for. */
export interface LimitChange {
  /** Only these change; 0 takes one away. Of a disk in a group, the group's. */
  readonly limits?: Limits | undefined;
  /** None hold, whatever the toolstack says. */
  readonly off?: boolean | undefined;
  /** The operator has said nothing. */
  readonly reset?: boolean | undefined;
}

interface Asked {
  readonly limits: Limits;
  readonly from: LimitSource;
}

/** undefined: nobody has asked for any. */
function asked({ limits: { operator, toolstack }, medium }: Device): Asked | undefined {
  if (operator === 'none') return undefined;
  if (operator) return { limits: operator, from: 'operator' };
  if (toolstack) return { limits: toolstack, from: 'xenstore' };
  const limits = medium && targetLimits(medium.params);
  return limits && { limits, from: 'target' };
}

/** The name of the set that holds, made or changed as need be; "": none does. */
export function limitSet(device: Device): string {
  return device.services.limitSets.use(vbdName(device.id), asked(device)?.limits);
}

/** What has been asked for holds at once. */
function applyLimits(device: Device): void {
  const name = limitSet(device);
  device.link?.connection.limit(name);
}

/** What the toolstack's node says by now. One that makes no sense changes nothing. */
export function followToolstack(device: Device, { backend }: View): void {
  const { limits: said, log } = device;
  const problem = backend.limitsProblem?.message;
  if (problem !== undefined && said.problem !== problem) {
    log.warn({ error: problem }, 'the limits stay as they are');
  }
  said.problem = problem;
  if (problem !== undefined) return;
  const { limits } = backend.toolstack;
  if (textOf(said.toolstack) === textOf(limits)) return;
  said.toolstack = limits;
  applyLimits(device);
  if (device.link) log.info({ limits: textOf(limits) }, 'limited by the toolstack');
}

/** By an operator. Throws LIMIT_INVALID, and nothing has changed then. */
export function changeLimits(device: Device, { limits, off, reset }: LimitChange): void {
  const { limits: said, services, log } = device;
  const { limitSets } = services;
  const { group } = asked(device)?.limits ?? {};
  if (reset) {
    if (group !== undefined) limitSets.resetGroup(group);
    said.operator = undefined;
  } else if (off) {
    said.operator = 'none';
  } else if (limits) {
    said.operator = changedLimits(limitSets, asked(device)?.limits ?? {}, limits);
  }
  applyLimits(device);
  log.info({ limits: textOf(describeLimits(device)) }, 'limited by an operator');
}

/**
 * What an operator's word is after that, who said `before`. A group's figures are the group's.
 * Throws LIMIT_INVALID.
 */
export function changedLimits(
  limitSets: LimitSets,
  before: Limits,
  given: Limits,
): Limits | 'none' {
  const group = given.group ?? before.group;
  const weight = given.weight ?? before.weight;
  if (group === undefined) {
    const merged = mergeLimits(before, given);
    const problem = limitProblem(merged);
    if (problem) throw invalidLimits(problem);
    return hasFigures(merged) ? merged : 'none';
  }
  const known = limitSets.figures(group);
  const figures = mergeLimits(known ?? {}, figuresOf(given));
  const problem = limitProblem(figures);
  if (problem) throw invalidLimits(problem);
  if (!known && !hasFigures(figures)) {
    throw new RingdiskError(
      'LIMIT_INVALID',
      `There is no group ${showValue(group)} yet: say what it may, such as --iops 2000.`,
    );
  }
  if (hasFigures(given)) limitSets.setGroup(group, figures);
  return weight === undefined ? { group } : { group, weight };
}

/** undefined: none hold. */
export function describeLimits(device: Device): LimitInfo | undefined {
  const found = asked(device);
  if (!found) return undefined;
  const { limits, from } = found;
  return limitInfo(device.services.limitSets, vbdName(device.id), limits, from);
}

export function limitInfo(
  limitSets: LimitSets,
  itself: string,
  limits: Limits,
  from: LimitSource,
): LimitInfo | undefined {
  const { group, weight } = limits;
  if (group === undefined) return hasFigures(limits) ? { ...limits, from } : undefined;
  const sharedWith = limitSets.members(group).filter((name) => name !== itself);
  const by = limitSets.isOperators(group) ? 'operator' : from;
  const own = weight === undefined ? { group } : { group, weight };
  return { ...limitSets.figures(group), ...own, sharedWith, from: by };
}

/** The operator's word as a record has it; undefined: he has said nothing. */
export function wordOfOperator({ limits: { operator } }: Device): string | undefined {
  return typeof operator === 'object' ? formatLimits(operator) : operator;
}

/** What a record says, taken in. */
export function recallLimits(device: Device, word: string | undefined): void {
  if (word === undefined || device.limits.operator !== undefined) return;
  const limits = word === 'none' ? word : parseLimits(word);
  if (typeof limits === 'object' || limits === 'none') device.limits.operator = limits;
}

function textOf(limits: Limits | undefined): string | undefined {
  return limits && formatLimits(limits);
}
