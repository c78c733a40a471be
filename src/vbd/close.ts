// SPDX-License-Identifier: Apache-2.0
// The end of a connection: the same path for every reason. Frontends and toolstacks wait five to
// ten seconds for the states, a slow disk may take longer: so letting go runs beside, and whatever
// must not happen before it is over asks for `device.lettingGo`.
import { setTimeout as sleep } from 'node:timers/promises';
import { publish } from '../blkif/backend_nodes.ts';
import { BACKEND_NODES } from '../blkif/features.ts';
import { type Device, messageOf, type View } from './device.ts';
import type { Wish } from './states.ts';

/** Goes to Closing at once. Requests are served on: old kernels still unmount in this state. */
export async function beginClose(device: Device, view: View): Promise<void> {
  // The toolstack may have written it itself.
  if (view.backend.state !== 'Closing') {
    const { xenstore } = device.services;
    await publish(xenstore, device.directory, view.backend.state, { state: 'Closing' });
  }
  device.state = 'Closing';
}

/**
 * Goes to Closed when the data path has let go of the rings, or after `letGoMs` if the disk is too
 * slow: no more requests are taken then, and the guest's pages stay granted until we unmap them.
 */
export async function finishClose(device: Device, view: View, wish: Wish): Promise<void> {
  letGo(device);
  const { toolstack, state } = view.backend;
  // A frontend that closed by itself may come back, and finds the target still open.
  if (wish === 'close' || view.frontend === 'Unknown') letGoOfMedium(device);
  if (!(await isOverWithin(device.lettingGo, device.services.timing.letGoMs))) {
    device.log.warn({}, 'the disk is slow: closed for the guest while its I/O ends');
  }
  const { xenstore } = device.services;
  if (state !== 'Closed') await publish(xenstore, device.directory, state, { state: 'Closed' });
  // xenopsd takes this node's absence for "unplugged"; it never needed a script to say so.
  if (toolstack.online === false) {
    await xenstore.remove(`${device.directory}/${BACKEND_NODES.hotplugStatus.node}`);
  }
  device.state = 'Closed';
  device.offer = undefined;
  device.log.info({ frontend: view.frontend }, 'closed');
}

/**
 * Starts to disconnect the data path, if there is one. From then on nobody can take it over: what a
 * former daemon recorded is removed, too.
 */
export function letGo(device: Device): void {
  const { link, services } = device;
  if (link) {
    device.link = undefined;
    device.failing = undefined;
    device.counters = link.connection.counters();
    letGoBeside(device, 'disconnect', () => link.connection.disconnect());
  }
  if (!device.recorded) return;
  device.recorded = false;
  letGoBeside(device, 'remove the record', async () => services.records.remove(device.id));
}

/** Starts to close the target, if one is open; after its data path has let go. */
export function letGoOfMedium(device: Device): void {
  const { medium } = device;
  if (!medium) return;
  device.medium = undefined;
  letGoBeside(device, 'close the target', () => medium.target.close());
}

function letGoBeside(device: Device, what: string, step: () => Promise<unknown>): void {
  const before = device.lettingGo ?? Promise.resolve();
  const current = before.then(step).catch((error: unknown) => {
    device.log.error({ error: messageOf(error) }, `could not ${what}`);
  });
  const whole = current.then(() => {
    // Something later may have been queued behind this.
    if (device.lettingGo === whole) device.lettingGo = undefined;
  });
  device.lettingGo = whole;
}

async function isOverWithin(promise: Promise<void> | undefined, ms: number): Promise<boolean> {
  if (!promise) return true;
  const cancel = new AbortController();
  const timeout = sleep(ms, false, { signal: cancel.signal }).catch(() => false);
  const isOver = await Promise.race([promise.then(() => true), timeout]);
  cancel.abort();
  return isOver;
}
