// SPDX-License-Identifier: Apache-2.0
// The control socket's methods, over the daemon.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../config.ts';
import type { Daemon } from '../daemon.ts';
import { native } from '../datapath/binding.ts';
import type { ExportInfo } from '../nbd/exported.ts';
import type { Platform } from '../platform/platform.ts';
import { invalidLimits, type Limits, parseLimitChange } from '../target/limits.ts';
import type { VbdInfo } from '../vbd/info.ts';
import type { LimitInfo } from '../vbd/limits.ts';
import { RECORD_VERSION } from '../vbd/record.ts';
import { packageVersion } from '../version.ts';
import { bitmapHandlers, bitmapsOf } from './bitmap_handlers.ts';
import { ControlError } from './errors.ts';
import {
  type Methods,
  PROTOCOL,
  type ServeArguments,
  type WireExport,
  type WireLimits,
  type WireLinkLoss,
  type WireVbd,
} from './protocol.ts';
import type { Handlers } from './server.ts';

const START_MS_MAX = 5000;

/** How this daemon lets go of its disks. */
export interface Handover {
  /** Ends the process, once the answer is on its way. */
  begin(): void;
  readonly managed: boolean;
  readonly serve: ServeArguments;
}

export function daemonHandlers(
  daemon: Daemon,
  platform: Platform,
  config: Config,
  handover: Handover,
): Handlers {
  return {
    version: async () => ({
      ringdisk: packageVersion(),
      recordVersion: RECORD_VERSION,
      ...native.version(),
      protocol: PROTOCOL,
      platform: platform.name,
      backends: [...config.backends],
      pid: process.pid,
      ...linkLoss(platform),
    }),
    list: async () => ({
      vbds: daemon.vbds().map((vbd) => wireVbd(vbd.info())),
      ...linkLoss(platform),
    }),
    show: async ({ vbd }) => {
      const found = daemon.find(vbd);
      const latency = found.latency();
      const info = found.info();
      const bitmaps = bitmapsOf(daemon, info.target?.capabilities);
      const more = { ...(latency && { latency }), ...(bitmaps && { bitmaps }) };
      return { vbd: { ...wireVbd(info), reactors: found.reactors(), ...more } };
    },
    stats: async () => statsOf(daemon),
    resize: async ({ vbd }) => {
      const found = daemon.find(vbd);
      const before = capacityOf(found.info());
      return { before, after: capacityOf(await found.resize()) };
    },
    limit: (request) => limitVbd(daemon, request),
    disconnect: async ({ vbd, force = false }) => {
      await daemon.find(vbd).disconnect({ force });
      return {};
    },
    fill: async ({ vbd, ...change }) => ({ fill: daemon.find(vbd).fill(change) }),
    mirror: (request) => mirrorVbd(daemon, request),
    retry: async ({ vbd }) => ({ vbd: wireVbd(await daemon.find(vbd).retry()) }),
    ...exportHandlers(daemon),
    ...bitmapHandlers(daemon),
    handover: async () => {
      if (!platform.outlivesUs) {
        throw new ControlError('EINVAL', 'the guests of this loopback machine end with its daemon');
      }
      const { managed, serve } = handover;
      handover.begin();
      return { managed, serve };
    },
  };
}

function statsOf(daemon: Daemon): Methods['stats']['result'] {
  const vbds = daemon.vbds().flatMap((vbd) => {
    const { name, counters, fencedSince, failing, fill, mirror, limits } = vbd.info();
    if (!counters) return [];
    const latency = vbd.latency();
    const waits = { ...(fencedSince && { fencedSince }), ...(failing && { failing }) };
    const jobs = { ...(fill && { fill }), ...(mirror && { mirror }) };
    const more = { ...jobs, ...(limits && { limits: wireLimits(limits) }) };
    return [{ name, counters, ...(latency && { latency }), ...waits, ...more }];
  });
  return { monotonicMs: performance.now(), vbds, engine: daemon.counters() };
}

function exportHandlers(
  daemon: Daemon,
): Pick<Handlers, 'exportAdd' | 'exportLimit' | 'exportList' | 'exportRemove' | 'exportDrain'> {
  return {
    exportAdd: async ({ limits, ...request }) => {
      const wish = { ...request, limits: limits === undefined ? undefined : toChange(limits) };
      return { export: wireExport(await daemon.exports.add(wish)) };
    },
    exportLimit: async ({ name, limits, off }) => {
      const change = { limits: limits === undefined ? undefined : toChange(limits), off };
      return { export: wireExport(daemon.exports.limit(name, change)) };
    },
    exportList: async () => ({ exports: daemon.exports.list().map(wireExport) }),
    exportRemove: async ({ name }) => {
      await daemon.exports.remove(name);
      return {};
    },
    exportDrain: async ({ name, domid, ms }) => ({
      left: await daemon.exports.drain(name, domid, ms),
    }),
  };
}

async function limitVbd(
  daemon: Daemon,
  { vbd, limits, off, reset }: Methods['limit']['params'],
): Promise<Methods['limit']['result']> {
  const found = daemon.find(vbd);
  const change = { limits: limits === undefined ? undefined : toChange(limits), off, reset };
  if (limits !== undefined || off || reset) await found.limit(change);
  const info = wireVbd(found.info());
  return { vbd: info.name, ...(info.limits && { limits: info.limits }) };
}

async function mirrorVbd(
  daemon: Daemon,
  { vbd, action, target, mode, rate, paused, switchWhenReady = false }: Methods['mirror']['params'],
): Promise<Methods['mirror']['result']> {
  const found = daemon.find(vbd);
  if (action === 'start') {
    if (target === undefined) throw new ControlError('EINVAL', 'start wants a target');
    const what = { target, mode: mode ?? 'copy', rate: rate ?? 0, switchWhenReady } as const;
    await found.mirror({ action, ...what });
  } else if (action === 'set') {
    await found.mirror({ action, mode, rate, paused });
  } else {
    await found.mirror({ action });
  }
  const info = wireVbd(found.info());
  const { mirror } = info;
  return {
    vbd: info.name,
    ...(info.target && { target: info.target }),
    ...(mirror && { mirror }),
  };
}

function toChange(text: string): Limits {
  const limits = parseLimitChange(text);
  if (typeof limits === 'object') return limits;
  throw invalidLimits(limits);
}

function linkLoss({ xenstore }: Platform): { xenstoreLost?: WireLinkLoss } {
  const { lost } = xenstore;
  return lost ? { xenstoreLost: { since: lost.since.toISOString(), reason: lost.reason } } : {};
}

function capacityOf(info: VbdInfo): number {
  return info.target?.capabilities.capacity ?? 0;
}

/** The same record; the daemon's own is read-only to the depths, what travels is a copy anyway. */
function wireVbd({ agreement, waits, limits, ...rest }: VbdInfo): WireVbd {
  const whole = {
    ...rest,
    ...(waits && { waits: [...waits] }),
    ...(limits && { limits: wireLimits(limits) }),
  };
  if (!agreement) return whole;
  const queues = agreement.queues.map(({ ringRefs, eventChannel }) => ({
    ringRefs: [...ringRefs],
    eventChannel,
  }));
  return { ...whole, agreement: { ...agreement, queues } };
}

function wireExport({ limits, ...rest }: ExportInfo): WireExport {
  return { ...rest, ...(limits && { limits: wireLimits(limits) }) };
}

function wireLimits({ sharedWith, ...limits }: LimitInfo): WireLimits {
  return { ...limits, ...(sharedWith && { sharedWith: [...sharedWith] }) };
}

/** Nothing is answered before the daemon has started, or takes long to: a start may hang. */
export function whenStarted(handlers: Handlers, started: Promise<unknown>): Handlers {
  const patience = Promise.race([
    started.catch(() => {}),
    sleep(START_MS_MAX, undefined, { ref: false }),
  ]);
  const waiting = Object.entries(handlers).map(([method, handler]) => {
    const answer = handler as (params: unknown) => Promise<unknown>;
    return [method, (params: unknown) => patience.then(() => answer(params))];
  });
  return Object.fromEntries(waiting) as Handlers;
}
