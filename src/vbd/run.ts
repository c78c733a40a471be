// SPDX-License-Identifier: Apache-2.0
// While connected: resumed guests, grown targets, rings that break.
import { publish } from '../blkif/backend_nodes.ts';
import { FRONTEND_NODES, queueFolder, ringRefNode } from '../blkif/features.ts';
import type { Connection } from '../datapath/connection.ts';
import { DatapathError } from '../datapath/datapath.ts';
import { RingdiskError, showValue } from '../errors.ts';
import { shownSizes } from '../target/target_spec.ts';
import { isOverWithin } from './beside.ts';
import { letGo } from './close.ts';
import { type Device, type Link, type Medium, messageOf, nodeReader, type View } from './device.ts';
import { clearError, writeError } from './error_nodes.ts';
import { watchFailures } from './failing.ts';
import { changeLimits, followToolstack, type LimitChange, wordOfOperator } from './limits.ts';
import { currentMedia } from './media.ts';
import { diskValues, sectorsOf } from './negotiate.ts';
import type { MirrorRecord } from './record.ts';
import { readTransport, transportKey } from './transport.ts';

/** What the frontend needs to know and our state, in one transaction. */
export async function publishConnected(device: Device, view: View): Promise<void> {
  const { medium, offer, link, services } = device;
  if (!medium || !offer || !link) return;
  const media = await currentMedia(device, view, medium);
  await publish(services.xenstore, device.directory, view.backend.state, {
    ...diskValues(media, medium.target.capabilities),
    sectors: link.sectors,
    persistent: offer.persistent,
    state: 'Connected',
  });
}

/**
 * Writes down what a daemon after us needs to go on. Without it the VBD is served all the same, but
 * its guest is lost if we die: so it is tried again.
 */
export function remember(device: Device): void {
  const { medium, link } = device;
  if (!medium || !link) return;
  device.recorded = true;
  device.isInherited = false;
  try {
    writeRecord(device, link, medium, mirrorRecord(device));
    if (device.isRecordDue) device.log.info({}, 'recorded');
    device.isRecordDue = false;
  } catch (error) {
    const message = 'cannot be recorded: a restart of the daemon would hang its guest';
    if (!device.isRecordDue) device.log.error({ error: messageOf(error) }, message);
    device.isRecordDue = true;
    device.markIn(device.services.timing.again.firstMs);
  }
}

/** Throws where there is no room for it; the record of before holds then. */
export function writeRecord(
  device: Device,
  { agreement, onError, sectors }: Link,
  medium: Medium,
  mirror: MirrorRecord | undefined,
): void {
  const { params, spec, readOnly, share, isSwitched } = medium;
  const { capabilities, parts } = medium.target;
  const { identity } = capabilities;
  const switched = isSwitched && { isSwitched };
  const target = { params, ...spec, readOnly, share, identity, parts, ...switched };
  const limits = wordOfOperator(device);
  const { records } = device.services;
  records.write(device.id, { target, mirror, onError, limits, agreement, sectors });
}

function mirrorRecord({ mirror }: Device): MirrorRecord | undefined {
  if (!mirror) return undefined;
  const { target, wish, failure } = mirror;
  return { ...target, ...wish, ...(failure !== undefined && { failure }) };
}

/** Where there was no room for the record, there may be by now. */
export function rememberLate(device: Device): void {
  if (device.isRecordDue && device.link) remember(device);
  else device.isRecordDue = false;
}

/** What the data path reports by itself. */
export function listen(device: Device, connection: Connection): void {
  connection.on('ring-broken', (queue, reason) => {
    if (device.link?.connection !== connection) return;
    const message = `queue ${queue} is broken: ${reason}`;
    void writeError(device, message, 'a ring broke; the guest must reconnect to use it again');
  });
  watchFailures(device, connection);
}

/**
 * Compares the frontend's rings with the ones served. A guest that was suspended comes back with
 * new ones and no Closing in between: then the old ones are let go of, and true asks for a connect.
 */
export async function verify(device: Device, view: View): Promise<boolean> {
  const { link, offer } = device;
  if (!link || !offer) return false;
  followToolstack(device, view);
  await tellChangedTarget(device, view);
  if (await isSameTransport(device, view)) {
    // Publishing failed last time, or xenstore lost it.
    if (view.backend.state !== 'Connected') await publishConnected(device, view);
    return false;
  }
  device.log.info({}, 'the frontend has new rings: reconnecting');
  letGo(device);
  device.state = 'InitWait';
  return true;
}

/** A disc that is changed or ejected while it is in use: the guest keeps it until it reconnects. */
async function tellChangedTarget(device: Device, view: View): Promise<void> {
  const { params: asked = '' } = view.backend.toolstack;
  const { params } = device.medium ?? {};
  if (params === undefined) return;
  const wasAsked = device.askedTarget;
  device.askedTarget = asked === params ? undefined : asked;
  if (device.askedTarget === wasAsked) return;
  if (device.askedTarget === undefined) {
    await clearError(device);
    return;
  }
  const what = asked === '' ? 'no disc' : showValue(asked);
  await writeError(
    device,
    `The toolstack asks for ${what} while the guest uses ${showValue(params)}: it is served that ` +
      'until it reconnects.',
    'the target is changed when the guest reconnects',
  );
  device.passingError = device.error;
}

async function isSameTransport(device: Device, view: View): Promise<boolean> {
  const { link, offer } = device;
  if (!link || !offer) return true;
  if (view.frontend === 'Connected') return hasSameRing(device, view, link);
  const nodes = await readTransport(device, view, offer);
  return transportKey(nodes) === transportKey(link.agreement);
}

/**
 * One node tells, since a guest may cause many such looks: while we have the ring mapped, no other
 * grant can have its number. A connected frontend may tidy its nodes up.
 */
async function hasSameRing(device: Device, view: View, link: Link): Promise<boolean> {
  const { queues } = link.agreement;
  const [first] = queues;
  const { ringRef } = FRONTEND_NODES;
  const node = first && first.ringRefs.length > 1 ? ringRefNode(0) : ringRef.node;
  const folder = queues.length > 1 ? `${queueFolder(0)}/` : '';
  const text = await nodeReader(device.services.xenstore, view.frontendDir ?? '')(folder + node);
  const known = text === undefined ? undefined : ringRef.type.parse(text);
  return known === undefined || known === first?.ringRefs[0];
}

/** Live. Throws LIMIT_INVALID, and nothing has changed then. */
/** Throws LIMIT_INVALID, or LIMIT_UNRECORDED: it holds. */
export async function limit(device: Device, change: LimitChange): Promise<void> {
  changeLimits(device, change);
  remember(device);
  if (!device.isRecordDue && !device.services.limitSets.isUnrecorded) return;
  throw new RingdiskError(
    'LIMIT_UNRECORDED',
    'It holds, but cannot be recorded: a restart of the daemon would go by what held before. Is ' +
      'the runtime directory full? See the log.',
  );
}

/**
 * Reads the target's size again. Throws VBD_NOT_READY without one, VBD_BUSY if it does not answer,
 * RESIZE_REFUSED for one that is mirrored.
 */
export async function measure(device: Device): Promise<number> {
  const { medium, mirror } = device;
  if (!medium) throw new RingdiskError('VBD_NOT_READY', 'The VBD has no open target.');
  if (mirror?.native) {
    throw new RingdiskError(
      'RESIZE_REFUSED',
      'The disk is mirrored, and what it would grow by its mirror has no room for: end that first.',
    );
  }
  const { askMs } = device.services.timing;
  const refreshed = medium.target.refresh().catch(refuseToShrink);
  if (!(await isOverWithin(refreshed, askMs))) {
    refreshed.catch(() => {});
    throw new RingdiskError('VBD_BUSY', `The target has not answered for ${askMs / 1000} s.`);
  }
  return sectorsOf(await refreshed, shownSizes(medium.params));
}

/** The data path goes on with the size that the guest was told. */
function refuseToShrink(error: unknown): never {
  if (!(error instanceof DatapathError && error.code === 'ERANGE')) throw error;
  throw new RingdiskError(
    'RESIZE_REFUSED',
    `The target has become smaller: ${error.message}; a disk in use can only grow.`,
  );
}

/**
 * Tells a connected guest that its target has so many sectors by now. Throws RESIZE_REFUSED if it
 * is smaller than the guest was told.
 */
export async function resize(device: Device, after: number): Promise<void> {
  const { link } = device;
  if (!link) return;
  const before = link.sectors;
  if (after < before) {
    throw new RingdiskError(
      'RESIZE_REFUSED',
      `The target has ${after} sectors, the guest was told ${before}; a disk in use can only grow.`,
    );
  }
  if (device.state !== 'Connected') return;
  link.sectors = after;
  remember(device);
  await announceSize(device, link);
  device.log.info({ before, after }, 'resized');
}

/** Writing the state again, unchanged, is how Linux is told to look at `sectors`. */
export async function announceSize(device: Device, link: Link): Promise<void> {
  await publish(device.services.xenstore, device.directory, 'Connected', {
    sectors: link.sectors,
    state: 'Connected',
  });
}
