// SPDX-License-Identifier: Apache-2.0
// Going on with a VBD whose daemon is gone: stopped, replaced by a newer one or killed, which are
// one and the same path. The frontend has noticed nothing. The record (record.ts) says what was
// agreed; xenstore, that the rings are still the same ones; the medium's identity, that it is still
// the guest's; the journals, what was taken from the rings and not answered yet.
import { setTimeout as sleep } from 'node:timers/promises';
import { publish } from '../blkif/backend_nodes.ts';
import { BACKEND_NODES } from '../blkif/features.ts';
import { DatapathError } from '../datapath/datapath.ts';
import { NegotiationError, showValue } from '../errors.ts';
import { namedExport, shownSizes } from '../target/target_spec.ts';
import { XenstoreError } from '../xenstore/client.ts';
import { letGoOfMedium } from './close.ts';
import { link, summary, tellWarnings } from './connect.ts';
import { type Device, type Link, type Medium, messageOf, type View } from './device.ts';
import { watchFence } from './fence.ts';
import { vbdName } from './id.ts';
import { followToolstack, recallLimits } from './limits.ts';
import { openBeside, PROMPT_MS } from './media.ts';
import { mirrorUser } from './mirror_end.ts';
import { bringDestination, resumeMirror } from './mirror_resume.ts';
import { makeOffer, sectorsOf } from './negotiate.ts';
import type { VbdRecord } from './record.ts';
import { openRecorded } from './recorded_medium.ts';
import { announceSize, remember } from './run.ts';
import type { Trial } from './take_overs.ts';
import { readTransport, transportKey } from './transport.ts';

// What was negotiated once is within these, whatever is offered today.
const LIMITS = { queuesMax: 16, ringPageOrderMax: 4 } as const;
const RETRY_MS = 10;

/** What the environment may put right by itself, when rings are to be taken over or connected. */
const PASSING_ERRORS: readonly string[] = [
  'EAGAIN',
  'EBUSY',
  'EDQUOT',
  'EIO',
  'EMFILE',
  'ENFILE',
  'ENOMEM',
  'ENOSPC',
  'ETIMEDOUT',
];

export function isPassing(error: unknown): boolean {
  return error instanceof DatapathError && PASSING_ERRORS.includes(error.code);
}

/** Nothing but the frontend or an operator can help. */
class Hopeless extends Error {}

/**
 * Whether a VBD may have requests that somebody took and did not answer. The toolstack may have
 * asked for its removal meanwhile: its guest still uses it until it has been told.
 */
export function isInUse(view: View): boolean {
  const { state } = view.backend;
  if (state !== 'Connected' && state !== 'Closing') return false;
  // Initialised: it may be about to see that we are Connected; old kernels unmount in Closing.
  const { frontend } = view;
  return frontend === 'Initialised' || frontend === 'Connected' || frontend === 'Closing';
}

/** Its medium is its guest's until it is known that nobody uses it. */
export function reserveRecorded(device: Device): void {
  const { id, recorded, services } = device;
  if (!recorded) return;
  try {
    const { target, mirror } = services.records.read(id) ?? {};
    const isAlone = mirror !== undefined && mirror.failure === undefined;
    if (isAlone) {
      services.openTargets.reserve(mirror.identity, mirror.parts, mirrorUser(device), { isAlone });
    }
    if (target?.identity === undefined) return;
    const { readOnly, share, identity, parts } = target;
    const user = {
      name: vbdName(id),
      domid: id.domid,
      readOnly,
      share,
      ...namedExport(target.params),
    };
    services.openTargets.reserve(identity, parts, user, { isAlone });
  } catch {
    // Whoever takes it over says why it cannot be read.
  }
}

export type Attempt = 'taken over' | 'waiting' | 'failed';

/**
 * Tries to take the VBD over, as `device.link`. `waiting`: its medium has not answered yet, and
 * marks the VBD when it has. `failed`: the reason is told and nothing has changed; `device.orphan`
 * says whether another try makes sense. Throws XenstoreError.
 */
export async function reattach(device: Device, view: View): Promise<Attempt> {
  try {
    const record = readRecord(device);
    await checkRings(device, view, record);
    const medium = await openedMedium(device, record);
    if (!medium) return 'waiting';
    recallLimits(device, record.limits);
    followToolstack(device, view);
    await takeOver(device, medium, record);
    return 'taken over';
  } catch (error) {
    if (!device.link) letGoOfMedium(device);
    // Tried again, unlike what is wrong with this VBD.
    if (error instanceof XenstoreError) throw error;
    leave(device, error);
    return 'failed';
  }
}

/** A medium that does not answer has the operator told; the VBD is taken over when it does. */
export function tellLateTakeOver(device: Device): void {
  const { opening, services } = device;
  if (!opening || opening.isToldLate) return;
  const restMs = services.timing.openMs - opening.beside.ms;
  if (restMs > 0) {
    device.markIn(restMs);
    return;
  }
  opening.isToldLate = true;
  leave(device, new Error(lateOpen(opening.path, services.timing.openMs)));
}

export function lateOpen(path: string, ms: number): string {
  return (
    `the open of ${showValue(path)} has not answered for ${ms / 1000} s: ` +
    'its storage hangs. The disk goes on by itself when it answers'
  );
}

function leave(device: Device, error: unknown): void {
  const isHopeless = error instanceof Hopeless;
  device.orphan = isHopeless ? 'hopeless' : 'retrying';
  const what = isHopeless
    ? 'waiting for its frontend to reconnect'
    : 'and tried again by itself ("ringdisk retry" tries at once)';
  const message = `left connected, ${what}: ${messageOf(error)}`;
  if (device.error === message) return;
  device.error = message;
  device.passingError = message;
  const next = isHopeless ? 'its frontend must reconnect' : 'tried again by itself';
  device.log.error({ error: messageOf(error) }, `left connected; ${next}`);
}

function readRecord(device: Device): VbdRecord {
  let record: VbdRecord | undefined;
  try {
    record = device.services.records.read(device.id);
  } catch (error) {
    throw new Hopeless(messageOf(error));
  }
  if (record) return record;
  throw new Hopeless('the daemon that served it has left no record of it');
}

async function checkRings(device: Device, view: View, { agreement }: VbdRecord): Promise<void> {
  let key: string;
  try {
    key = transportKey(await readTransport(device, view, LIMITS));
  } catch (error) {
    if (error instanceof NegotiationError) throw new Hopeless(error.message);
    throw error;
  }
  if (key !== transportKey(agreement)) {
    throw new Hopeless('its rings are not the ones that were served');
  }
}

/** Opened, compared and claimed beside the VBD's turns; undefined while that is under way. */
async function openedMedium(device: Device, record: VbdRecord): Promise<Medium | undefined> {
  const { path } = record.target;
  const open = (signal: AbortSignal) => openRecorded(device, record, signal);
  const opening = device.opening ?? openBeside(device, 'take-over', path, true, open);
  const outcome = await opening.beside.within(PROMPT_MS);
  if (!outcome) return undefined;
  device.opening = undefined;
  if ('error' in outcome) throw outcome.error;
  return outcome.value;
}

async function takeOver(device: Device, medium: Medium, record: VbdRecord): Promise<void> {
  const started = performance.now();
  const linked = await onTrial(device, medium, record);
  const ms = Math.round(performance.now() - started);
  const { config } = device.services;
  const { agreement, target } = record;
  device.offer = makeOffer(config, medium.target.capabilities);
  // The toolstack or the frontend may have asked for the end meanwhile.
  if (device.state !== 'Closing') device.state = 'Connected';
  device.orphan = 'no';
  device.error = undefined;
  remember(device);
  bringDestination(device);
  const { replayed, redelivered } = linked.connection.counters();
  const from = { pid: record.pid, replayed, redelivered };
  device.log.info(
    { ms, ...from, agreement: summary(agreement), target: target.params },
    'taken over',
  );
  tellWarnings(device);
}

/** What runs native code on what a dead daemon left; see take_overs.ts. */
async function onTrial(device: Device, medium: Medium, record: VbdRecord): Promise<Link> {
  const { takeOvers, config } = device.services;
  device.medium = medium;
  let trial: Trial;
  try {
    trial = takeOvers.begin(device.id);
  } catch (error) {
    throw new Hopeless(messageOf(error));
  }
  try {
    watchFence(device, medium);
    // That the target shrank is nothing a guest could be told.
    const sizes = shownSizes(medium.params);
    const sectors = Math.max(record.sectors, sectorsOf(medium.target.capabilities, sizes));
    const { agreement, onError = medium.onError ?? config.onError } = record;
    await resumeMirror(device, medium, record);
    const linked = await linkWhenFree(device, medium, { agreement, onError, sectors });
    trial.endWith(linked.connection.recovered);
    return linked;
  } catch (error) {
    trial.end();
    throw error;
  }
}

/** The process before us may not be quite gone: what it held is busy until it is. */
async function linkWhenFree(
  device: Device,
  medium: Medium,
  terms: Pick<Link, 'agreement' | 'onError' | 'sectors'>,
): Promise<Link> {
  const { backoff, services } = device;
  const patienceMs = backoff.hasFailed ? 0 : services.timing.takeOverMs;
  const deadline = performance.now() + patienceMs;
  for (;;) {
    try {
      return await link(device, medium, terms, true);
    } catch (error) {
      const isBusy =
        error instanceof DatapathError && (error.code === 'EBUSY' || error.code === 'EINVAL');
      if (!isBusy && !isPassing(error)) throw new Hopeless(messageOf(error));
      if (!isBusy || performance.now() > deadline) throw error;
    }
    await sleep(RETRY_MS);
  }
}

/** What is new in xenstore after a take-over; the guest is only woken if it concerns it. */
export async function tellNews(device: Device, view: View): Promise<void> {
  const { link: linked, directory, services } = device;
  const { xenstore } = services;
  await publish(xenstore, directory, view.backend.state, { kthreadPid: process.pid });
  const known = await xenstore.read(`${directory}/${BACKEND_NODES.sectors.node}`);
  if (linked && view.backend.state === 'Connected' && linked.sectors > Number(known)) {
    await announceSize(device, linked);
  }
}
