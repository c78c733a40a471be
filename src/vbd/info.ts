// SPDX-License-Identifier: Apache-2.0
// What a VBD tells about itself: the record behind `list`, `show` and `stats`.
import type { OnError, TargetCapabilities, TargetKind } from '../datapath/binding.ts';
import type { VbdCounters } from '../datapath/counters.ts';
import type { HelperInfo } from '../formats/helper.ts';
import type { Beside } from './beside.ts';
import type { Device, Medium, View } from './device.ts';
import { describeFill, type FillInfo } from './fill.ts';
import { vbdName } from './id.ts';
import { describeLimits, type LimitInfo } from './limits.ts';
import { describeMirror, type MirrorInfo } from './mirror_info.ts';
import { type Agreement, isReadOnlyMode } from './negotiate.ts';
import type { OurState } from './states.ts';

/** JSON-able. Sizes in bytes. */
export interface VbdInfo {
  readonly name: string;
  readonly kind: string;
  readonly domid: number;
  readonly devid: number;
  /** The guest's name of the disk ("xvda"), where the toolstack wrote one. */
  readonly vdev?: string;
  readonly state: OurState;
  /** xenbus.h's name of the frontend's state; Unknown: there is no frontend. */
  readonly frontendState: string;
  readonly readOnly: boolean;
  /** Missing for a CD drive without a disc, and until the target could be opened. */
  readonly target?: {
    /** As the toolstack wrote it. */
    readonly spec: string;
    readonly kind: TargetKind;
    readonly path: string;
    readonly capabilities: TargetCapabilities;
    /** Of an image: the program that serves it. */
    readonly helper?: HelperInfo;
    /** It was a mirror: `spec` is what the guest's next start will use. */
    readonly isSwitched?: true;
  };
  /** Where its target is filled from a source; sizes in bytes. */
  readonly fill?: FillInfo;
  readonly mirror?: MirrorInfo;
  /** What the toolstack asks for instead, while the guest goes on with what it has. */
  readonly askedTarget?: string;
  /** What hangs in a call to its storage, and since when (ISO 8601). */
  readonly waits?: readonly {
    readonly call: string;
    readonly since: string;
    readonly count: number;
    readonly why?: string;
  }[];
  /** While connected. */
  readonly agreement?: Agreement;
  /** While connected, and the last figures after that until the next connect. */
  readonly counters?: VbdCounters;
  /**
   * Writes have been waiting since then (ISO 8601) for the I/O of a daemon that died; reads are
   * served.
   */
  readonly fencedSince?: string;
  /** While connected: what becomes of requests whose I/O fails. */
  readonly onError?: OnError;
  /** What it may ask a second; missing: as much as it likes. */
  readonly limits?: LimitInfo;
  /** What is wrong with the toolstack's node of limits: what it said before holds. */
  readonly limitsProblem?: string;
  /** Since then (ISO 8601) requests that failed with this errno wait and are tried again. */
  readonly failing?: { readonly since: string; readonly error: string };
  /** The last failure, until something succeeds. */
  readonly error?: string;
}

/** A snapshot; nothing in it changes later. */
export function describeVbd(device: Device, view: View | undefined): VbdInfo {
  const { id, state, medium, link, error, fencedSince, failing } = device;
  const { toolstack, limitsProblem } = view?.backend ?? {};
  const counters = link ? link.connection.counters() : device.counters;
  const waits = describeWaits(device);
  const limits = describeLimits(device);
  const mirror = describeMirror(device);
  return {
    name: vbdName(id),
    kind: id.kind,
    domid: id.domid,
    devid: id.devid,
    state,
    frontendState: view?.frontend ?? 'Unknown',
    readOnly:
      link?.agreement.readOnly ?? medium?.readOnly ?? isReadOnlyMode({ mode: toolstack?.mode }),
    ...(toolstack?.dev !== undefined && { vdev: toolstack.dev }),
    ...(medium && { target: describeTarget(device, medium) }),
    ...(medium?.spec.kind === 'fill' && { fill: describeFill(medium) }),
    ...(mirror && { mirror }),
    ...(device.askedTarget !== undefined && { askedTarget: device.askedTarget }),
    ...(waits.length > 0 && { waits }),
    ...(link && { agreement: link.agreement, onError: link.onError }),
    ...(counters && { counters: { ...counters } }),
    ...(limits && { limits }),
    ...(limitsProblem && { limitsProblem: limitsProblem.message }),
    ...(fencedSince && { fencedSince: fencedSince.toISOString() }),
    ...(failing && { failing: { since: failing.since.toISOString(), error: failing.error } }),
    ...(error !== undefined && { error }),
  };
}

/** A second is nothing yet. */
const WAIT_MS = 1000;

type Waits = NonNullable<VbdInfo['waits']>;

function describeWaits({ medium, opening, claiming, leaving }: Device): Waits {
  const since = (ms: number) => new Date(Date.now() - ms).toISOString();
  const beside = (call: string, step: Beside<unknown> | undefined): Waits => {
    const isLate = step !== undefined && !step.outcome && step.ms >= WAIT_MS;
    return isLate ? [{ call, since: since(step.ms), count: 1 }] : [];
  };
  // Of a disk that is closed for its guest, too: what is under way still lands, and what has taken
  // its place is not connected before. They may be two uses of one target.
  const targets = new Map(
    [leaving, medium?.target].flatMap((use) => (use ? [[use.handle, use] as const] : [])),
  );
  const ofTargets = [...targets.values()].flatMap((target) => target.waits());
  return [
    ...beside(opening?.isNew === false ? 'measure' : 'open', opening?.beside),
    ...beside('claim', claiming),
    ...ofTargets.map(({ sinceMs, ...wait }) => ({ ...wait, since: since(sinceMs) })),
  ];
}

function describeTarget(
  { services }: Device,
  { params, spec, readOnly, isSwitched, target }: Medium,
): NonNullable<VbdInfo['target']> {
  const { kind, path } = spec;
  const helper = services.images.describe(kind, path, readOnly);
  const capabilities = { ...target.capabilities };
  const more = { ...(helper && { helper }), ...(isSwitched && { isSwitched }) };
  return { spec: params, kind, path, capabilities, ...more };
}
