// SPDX-License-Identifier: Apache-2.0
// The health of all pools, looked at every half minute: what changes goes to the log, once, and
// what is so now is told to whoever asks. Nothing is said to be well that has not just said so.
import type { Logger } from '../log.ts';
import { LimitedLog, RateLimit } from '../vbd/rate_limit.ts';
import type { VdevStatus } from '../volume/manager_types.ts';
import type { RunCommand } from '../zfs/command.ts';
import { poolStates } from '../zfs/kstat.ts';
import { type Condition, conditionsOf } from './conditions.ts';
import { EventLog, type HealthChange, type HealthEvent, type PoolKey } from './event_log.ts';
import { type LookedPool, PoolWatch } from './pool_watch.ts';
import { SlowDisks } from './slow_disks.ts';
import { Smart } from './smart.ts';
import type { DiskSmart } from './smart_report.ts';

const LOOK_MS = 30_000;
const SMART_MS = 30 * 60_000;
/** Who asks is answered by a look that is no older. */
const FRESH_MS = 5000;
const LINES_PER_SECOND = 1;
const LINES_AT_ONCE = 50;

export type Verdict = 'healthy' | 'unhealthy' | 'unknown';

export interface PoolHealth extends PoolKey {
  state?: string;
  verdict: Verdict;
  /** Why it is unknown. */
  reason?: string;
  /** Milliseconds since 1970, when it was known last. */
  known?: number;
  smart: (DiskSmart & { disk: string })[];
}

export interface HealthReport {
  /** Milliseconds since 1970. */
  at: number;
  /** Why there may be pools that are not in it. */
  incomplete?: string;
  pools: PoolHealth[];
  events: HealthEvent[];
  changes: readonly HealthChange[];
}

export interface HealthOptions {
  run: RunCommand;
  log: Logger;
  states?: typeof poolStates;
  smart?: Smart;
  /** Milliseconds since 1970. */
  now?: () => number;
}

export class Health {
  readonly #watch: PoolWatch;
  readonly #smart: Smart;
  readonly #slow = new SlowDisks();
  readonly #events = new EventLog();
  readonly #log: LimitedLog;
  readonly #now: () => number;
  #pools: PoolHealth[] = [];
  #incomplete: string | undefined = 'no pool has been looked at yet';
  #at = 0;
  #looking: Promise<void> | undefined;
  #smartAt = Number.NEGATIVE_INFINITY;
  #smartLooking: Promise<void> | undefined;
  /** Disks of pools, as their status names them. */
  #disks: string[] = [];
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor({ run, log, states = poolStates, smart, now = Date.now }: HealthOptions) {
    this.#watch = new PoolWatch(run, log, states);
    this.#smart = smart ?? new Smart(run, log);
    this.#log = new LimitedLog(log, new RateLimit(LINES_PER_SECOND, LINES_AT_ONCE));
    this.#now = now;
  }

  start(): void {
    void this.#loop();
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  /** As it is now. What does not answer in time is unknown, and nothing else waits for it. */
  async report(): Promise<HealthReport> {
    if (this.#now() - this.#at >= FRESH_MS || this.#now() < this.#at) await this.look();
    return {
      at: this.#at,
      ...(this.#incomplete !== undefined && { incomplete: this.#incomplete }),
      pools: this.#pools,
      events: this.#events.events,
      changes: this.#events.changes,
    };
  }

  /** Of one pool, by its name. */
  async of(pool: string): Promise<{ health: PoolHealth | undefined; events: HealthEvent[] }> {
    const { pools, events } = await this.report();
    const health = pools.find((one) => one.pool === pool);
    return { health, events: events.filter((event) => event.pool === pool) };
  }

  async #loop(): Promise<void> {
    await this.look();
    if (this.#isClosed) return;
    this.#timer = setTimeout(() => void this.#loop(), LOOK_MS);
  }

  /** One look at a time. */
  look(): Promise<void> {
    this.#looking ??= this.#lookOnce().finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  async #lookOnce(): Promise<void> {
    await this.#slow.look((verbose) => this.#watch.events(verbose), this.#now());
    const before = this.#pools;
    const { incomplete, pools } = await this.#watch.look(before);
    const now = this.#now();
    for (const pool of pools) this.#take(pool, now);
    for (const gone of before.filter((one) => !pools.some((other) => isSame(one, other)))) {
      this.#say(this.#events.forget(gone, Math.floor(now / 1000)));
    }
    this.#pools = pools.map((pool) => this.#judge(pool, before, now));
    this.#incomplete = incomplete;
    this.#at = now;
    this.#disks = pools.flatMap(({ status }) => (status ? disksOf(status.vdevs) : []));
    this.#lookAtDisks();
  }

  #take(looked: LookedPool, now: number): void {
    const { pool, status } = looked;
    const conditions: Condition[] = status
      ? conditionsOf({
          status,
          smartOf: (disk) => this.#smart.of(disk),
          slow: this.#slow.of(pool),
          isOn: (kind) => this.#events.isOn(looked, kind),
        })
      : [...this.#stillSo(looked), unknown(looked)];
    this.#say(this.#events.take(looked, conditions, Math.floor(now / 1000)));
  }

  /** What was so when the pool could be asked last: nobody has said that it is over. */
  #stillSo(looked: LookedPool): Condition[] {
    return this.#events.events
      .filter((event) => isSame(event, looked))
      .filter(({ kind }) => kind !== 'pool-unknown')
      .map(({ kind, subject, severity, message }) => ({
        ...{ kind, severity, message },
        ...(subject !== undefined && { subject }),
      }));
  }

  #judge(looked: LookedPool, before: readonly PoolHealth[], now: number): PoolHealth {
    const { pool, guid, state, status, reason } = looked;
    const known = status ? now : before.find((one) => isSame(one, looked))?.known;
    const isBad = this.#events.events.some(
      (event) => isSame(event, looked) && event.severity !== 'info',
    );
    const verdict = status ? (isBad || !status.healthy ? 'unhealthy' : 'healthy') : 'unknown';
    const disks = status ? disksOf(status.vdevs) : [];
    return {
      ...{ pool, guid, verdict },
      ...(state !== undefined && { state }),
      ...(reason !== undefined && { reason }),
      ...(known !== undefined && { known }),
      smart: disks.flatMap((disk) => this.#smart.of(disk).map((one) => ({ ...one, disk }))),
    };
  }

  /** Beside all else: disks may take their time. */
  #lookAtDisks(): void {
    const isDue = performance.now() - this.#smartAt >= SMART_MS;
    const isNew = this.#disks.some((disk) => !this.#smart.knows(disk));
    if (this.#isClosed || this.#smartLooking || !(isDue || isNew)) return;
    this.#smartAt = performance.now();
    this.#smartLooking = this.#smart.look(this.#disks).finally(() => {
      this.#smartLooking = undefined;
    });
  }

  #say(changes: readonly HealthChange[]): void {
    for (const { what, event } of changes) {
      const { id, pool, kind, subject, severity, message } = event;
      const fields = { id, pool, kind, ...(subject !== undefined && { subject }) };
      if (what === 'ended') this.#log.info(fields, `over: ${message}`);
      else if (severity === 'info') this.#log.info(fields, message);
      else if (severity === 'warning') this.#log.warn(fields, message);
      else this.#log.error(fields, message);
    }
  }
}

function unknown({ pool, state, reason = '' }: LookedPool): Condition {
  if (state === 'SUSPENDED') return { kind: 'pool-state', severity: 'critical', message: reason };
  const message = `How ${pool} is cannot be told: ${reason}`;
  return { kind: 'pool-unknown', severity: 'critical', message };
}

function isSame(one: PoolKey, other: PoolKey): boolean {
  const haveGuids = one.guid !== undefined && other.guid !== undefined;
  return haveGuids ? one.guid === other.guid : one.pool === other.pool;
}

function disksOf(vdevs: Record<string, VdevStatus[]>): string[] {
  const leaves = (list: VdevStatus[]): string[] =>
    list.flatMap(({ name, children }) => (children.length === 0 ? [name] : leaves(children)));
  return [...new Set(Object.values(vdevs).flatMap(leaves))].filter((name) => name.startsWith('/'));
}
