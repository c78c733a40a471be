// SPDX-License-Identifier: Apache-2.0
// From looks at pools to events: what has begun, changed and ended since the look before. Each is
// said once; one that changes all the time is said again after a while.
import * as v from 'valibot';
import { Condition, type Kind, SEVERITIES, type Severity } from './conditions.ts';

/** A condition that lasts. */
export const HealthEvent = v.object({
  /** The same as long as it lasts, over restarts of the manager too: what it is, and of what. */
  id: v.string(),
  pool: v.string(),
  guid: v.exactOptional(v.string()),
  ...Condition.entries,
  /** Seconds since 1970, since this manager knows of it; and when its message changed last. */
  since: v.number(),
  changed: v.number(),
});
export type HealthEvent = v.InferOutput<typeof HealthEvent>;

export const HealthChange = v.object({
  /** Counts up as long as the manager lives. */
  number: v.number(),
  at: v.number(),
  what: v.picklist(['began', 'changed', 'ended']),
  event: HealthEvent,
});
export type HealthChange = v.InferOutput<typeof HealthChange>;

export interface PoolKey {
  pool: string;
  guid?: string | undefined;
}

/** Kept for those who come later. */
const CHANGES_MAX = 200;
/** Of one condition, said again because its words have changed. */
const SAY_AGAIN_S = 300;
/** What hostile or broken hardware can make of a pool. */
const EVENTS_MAX = 1000;

export class EventLog {
  /** By id. */
  readonly #events = new Map<string, HealthEvent>();
  /** When each was said last. */
  readonly #said = new Map<string, number>();
  readonly #changes: HealthChange[] = [];
  #count = 0;

  /** Worst first. */
  get events(): HealthEvent[] {
    const rank = ({ severity }: HealthEvent) => SEVERITIES.indexOf(severity);
    return [...this.#events.values()].sort((one, other) => rank(other) - rank(one));
  }

  /** Oldest first. */
  get changes(): readonly HealthChange[] {
    return this.#changes;
  }

  isOn(key: PoolKey, kind: Kind): boolean {
    return this.#events.has(idOf(key, { kind }));
  }

  /** `conditions` is all that there is of the pool now, in seconds since 1970. */
  take(key: PoolKey, conditions: readonly Condition[], now: number): HealthChange[] {
    const here = new Map(conditions.map((condition) => [idOf(key, condition), condition]));
    const over = [...this.#events.values()].filter(
      (event) => isOf(event, key) && !here.has(event.id),
    );
    const fresh = [...here].slice(0, EVENTS_MAX).flatMap(([id, condition]) => {
      return this.#note(key, id, condition, now);
    });
    return [...over.map((event) => this.#end(event, now)), ...fresh];
  }

  /** The pool is exported or destroyed. */
  forget(key: PoolKey, now: number): HealthChange[] {
    return this.take(key, [], now);
  }

  #note(key: PoolKey, id: string, condition: Condition, now: number): HealthChange[] {
    const before = this.#events.get(id);
    if (before?.message === condition.message && before.severity === condition.severity) return [];
    const { pool, guid } = key;
    const since = before?.since ?? now;
    const known = { id, pool, ...(guid !== undefined && { guid }) };
    const event: HealthEvent = { ...known, ...condition, since, changed: now };
    this.#events.set(id, event);
    const isWorse = before !== undefined && worse(condition.severity, before.severity);
    const said = this.#said.get(id) ?? Number.NEGATIVE_INFINITY;
    if (before && !isWorse && now - said < SAY_AGAIN_S) return [];
    this.#said.set(id, now);
    return [this.#change(before ? 'changed' : 'began', event, now)];
  }

  #end(event: HealthEvent, now: number): HealthChange {
    this.#events.delete(event.id);
    this.#said.delete(event.id);
    return this.#change('ended', event, now);
  }

  #change(what: HealthChange['what'], event: HealthEvent, at: number): HealthChange {
    const change = { number: ++this.#count, at, what, event };
    this.#changes.push(change);
    if (this.#changes.length > CHANGES_MAX) this.#changes.shift();
    return change;
  }
}

function worse(one: Severity, other: Severity): boolean {
  return SEVERITIES.indexOf(one) > SEVERITIES.indexOf(other);
}

function isOf(event: HealthEvent, { pool, guid }: PoolKey): boolean {
  return guid !== undefined && event.guid !== undefined ? event.guid === guid : event.pool === pool;
}

/** A pool that was renamed is the same one. */
function idOf(
  { pool, guid }: PoolKey,
  { kind, subject }: { kind: Kind; subject?: string },
): string {
  return [guid ?? pool, kind, ...(subject === undefined ? [] : [subject])].join('/');
}
