// SPDX-License-Identifier: Apache-2.0
// While connected: resumed guests, grown targets, rings that break.
import { publish } from '../blkif/backend_nodes.ts';
import type { Connection } from '../datapath/datapath.ts';
import { NegotiationError, RingdiskError } from '../errors.ts';
import { letGo } from './close.ts';
import { type Device, type Link, messageOf, type View } from './device.ts';
import { watchFailures } from './failing.ts';
import { currentMedia } from './media.ts';
import { diskValues, sectorsOf } from './negotiate.ts';
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
 * its guest is lost if we die.
 */
export function remember(device: Device): void {
  const { medium, link, services, id } = device;
  if (!medium || !link) return;
  const { params, spec, readOnly } = medium;
  const { agreement, sectors } = link;
  device.recorded = true;
  try {
    services.records.write(id, { target: { params, ...spec, readOnly }, agreement, sectors });
  } catch (error) {
    const message = 'cannot be recorded: a restart of the daemon would hang its guest';
    device.log.error({ error: messageOf(error) }, message);
  }
}

/** What the data path reports by itself. */
export function listen(device: Device, connection: Connection): void {
  connection.on('ring-broken', (queue, reason) => {
    device.error = `queue ${queue} is broken: ${reason}`;
    device.log.error({ queue, reason }, 'a ring broke; the guest must reconnect to use it again');
    void device.services.xenstore.write(device.errorNode, device.error).catch((error: unknown) => {
      device.log.warn({ error: messageOf(error) }, 'could not write the error node');
    });
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

async function isSameTransport(device: Device, view: View): Promise<boolean> {
  const { link, offer } = device;
  if (!link || !offer) return true;
  try {
    const nodes = await readTransport(device, view, offer);
    return transportKey(nodes) === transportKey(link.agreement);
  } catch (error) {
    if (!(error instanceof NegotiationError)) throw error;
    // A connected frontend may tidy up its nodes; one that is about to connect needs them.
    if (view.frontend === 'Connected') return true;
    throw error;
  }
}

/**
 * Reads the target's size again and tells a connected guest if it grew. Throws RESIZE_REFUSED if it
 * is smaller than the guest was told, VBD_NOT_READY if no target is open.
 */
export async function resize(device: Device): Promise<void> {
  const { medium, link } = device;
  if (!medium) throw new RingdiskError('VBD_NOT_READY', 'The VBD has no open target.');
  const after = sectorsOf(await medium.target.refresh());
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
