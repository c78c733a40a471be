// SPDX-License-Identifier: Apache-2.0
// The end of a connection: the same path for every reason. Frontends and toolstacks wait five to
// ten seconds for the states, a slow disk may take longer: so letting go runs beside, and whatever
// must not happen before it is over asks for `device.lettingGo`.
import { publish } from '../blkif/backend_nodes.ts';
import { BACKEND_NODES } from '../blkif/features.ts';
import type { VbdCounters } from '../datapath/counters.ts';
import { isOverWithin } from './beside.ts';
import { type Device, messageOf, type View } from './device.ts';
import { clearError } from './error_nodes.ts';
import { vbdName } from './id.ts';
import { endMirror, mirrorUser } from './mirror_end.ts';
import { outlast } from './recorded_medium.ts';
import type { Wish } from './states.ts';
import type { TargetUse } from './target_entry.ts';

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
  const { state } = view.backend;
  // A frontend that closed by itself may come back, and finds the target still open.
  if (wish === 'close' || view.frontend === 'Unknown') {
    const { endExports } = device.services;
    letGoBeside(device, 'end its exports', () => endExports(vbdName(device.id)));
    letGoOfMedium(device);
  }
  if (!(await isOverWithin(device.lettingGo, device.services.timing.letGoMs))) {
    device.log.warn({}, 'the disk is slow: closed for the guest while its I/O ends');
  }
  const { xenstore } = device.services;
  if (state !== 'Closed') await publish(xenstore, device.directory, state, { state: 'Closed' });
  device.state = 'Closed';
  device.offer = undefined;
  device.isUnprepared = false;
  device.askedTarget = undefined;
  if (device.error !== undefined && device.error === device.passingError) await clearError(device);
  device.log.info({ frontend: view.frontend }, 'closed');
}

/** The toolstack takes it away, and waits to be told. */
export function isUnplugged({ backend: { toolstack } }: View): boolean {
  return toolstack.online === false || toolstack.shutdownRequest !== undefined;
}

/**
 * Tells the toolstack that it is unplugged: for xenopsd that is the absence of a node, or another
 * one where it has asked by a node. On storage that several hosts share, the guest may be started
 * elsewhere then, so nothing of it may be under way any more.
 */
export async function tellUnplugged(device: Device, view: View): Promise<void> {
  const { directory, services } = device;
  const { state, hotplugStatus, shutdownDone } = BACKEND_NODES;
  if (view.backend.toolstack.shutdownRequest === undefined) {
    await services.xenstore.remove(`${directory}/${hotplugStatus.node}`);
    return;
  }
  await services.xenstore.transaction(async (requests) => {
    // Not into a directory that is gone.
    if ((await requests.read(`${directory}/${state.node}`)) === undefined) return;
    await requests.write(`${directory}/${shutdownDone.node}`, '');
  });
}

/**
 * Starts to disconnect the data path, if there is one. From then on nobody can take it over: what a
 * former daemon recorded is removed, too.
 */
export function letGo(device: Device): void {
  const { link, services } = device;
  if (device.orphan === 'retrying') abandonOpening(device);
  device.orphan = 'no';
  services.openTargets.release(vbdName(device.id));
  // A mirror outlives the connection, also one that waits for its destination.
  if (!device.mirror) services.openTargets.release(mirrorUser(device).name);
  if (link) {
    device.link = undefined;
    device.failing = undefined;
    device.counters = withoutGauges(link.connection.counters());
    letGoBeside(device, 'disconnect', () => link.connection.disconnect());
    if (device.lettingGo) device.medium?.target.drain(device.lettingGo);
  }
  if (!device.recorded) return;
  device.recorded = false;
  if (device.isInherited)
    letGoBeside(device, 'tell the end of former I/O', () => inherited(device));
  device.isInherited = false;
  letGoBeside(device, 'remove the record', async () => services.records.remove(device.id));
}

/** What the daemon before us left under way must not land when the guest is elsewhere. */
async function inherited(device: Device): Promise<void> {
  const record = device.services.records.read(device.id);
  if (!record) return;
  const since = new Date();
  device.fencedSince = since;
  try {
    await outlast(device, record);
  } finally {
    if (device.fencedSince === since) device.fencedSince = undefined;
  }
}

/** What an operator is told who has asked for a disk in vain, for so long. */
export function whyInUse(view: View | undefined, askMs: number): string {
  return (
    `The guest has not let go of it for ${askMs / 1000} s (its frontend is ` +
    `${view?.frontend ?? 'Unknown'}), so it is still served, and closed as soon as the ` +
    'guest lets go. --force takes it away.'
  );
}

/** Starts to close the target, if one is open; after its data path has let go. */
export function letGoOfMedium(device: Device): void {
  abandonOpening(device);
  const { medium } = device;
  if (!medium) return;
  const { mirror } = device;
  device.mirror = undefined;
  if (mirror) letGoBeside(device, 'end its mirror', () => endMirror(device, mirror));
  device.medium = undefined;
  device.claiming = undefined;
  medium.target.leave();
  closeBeside(device, medium.target);
}

/** Nobody waits for it any more, and what it opens is closed. */
export function abandonOpening(device: Device): void {
  const { opening } = device;
  if (!opening) return;
  device.opening = undefined;
  opening.abandon.abort();
  if (!opening.isNew) return;
  opening.beside.whenOver((outcome) => {
    if ('value' in outcome) closeBeside(device, outcome.value.target);
  });
}

function closeBeside(device: Device, target: TargetUse): void {
  const before = Promise.all([device.lettingGo, device.closing]);
  const current = before
    .then(() => target.close())
    .catch((error: unknown) => {
      device.log.error({ error: messageOf(error) }, 'could not close the target');
    });
  const whole = current.then(() => {
    if (device.leaving === target) device.leaving = undefined;
    if (device.closing === whole) device.closing = undefined;
  });
  device.leaving = target;
  device.closing = whole;
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

/** What a connection that is over holds: nothing. */
function withoutGauges(counters: VbdCounters): VbdCounters {
  return {
    ...counters,
    inFlight: 0,
    mappedPages: 0,
    bounceBytes: 0,
    brokenQueues: 0,
    waitingForTokens: 0,
  };
}
