// SPDX-License-Identifier: Apache-2.0
// Going on with a VBD whose daemon is gone: stopped, replaced by a newer one or killed, which are
// one and the same path. The frontend has noticed nothing. The record (record.ts) says what was
// agreed; xenstore, that the rings are still the same ones; the journals, what was taken from them
// and not answered yet.
import { setTimeout as sleep } from 'node:timers/promises';
import { publish } from '../blkif/backend_nodes.ts';
import { BACKEND_NODES } from '../blkif/features.ts';
import { DatapathError } from '../datapath/datapath.ts';
import { XenstoreError } from '../xenstore/client.ts';
import { letGoOfMedium } from './close.ts';
import { link, summary } from './connect.ts';
import { type Device, type Link, type Medium, messageOf, type View } from './device.ts';
import { watchFence } from './fence.ts';
import type { Agreement } from './info.ts';
import { makeOffer, sectorsOf } from './negotiate.ts';
import type { VbdRecord } from './record.ts';
import { announceSize, remember } from './run.ts';
import { readTransport, transportKey } from './transport.ts';

// What was negotiated once is within these, whatever is offered today.
const LIMITS = { queuesMax: 16, ringPageOrderMax: 4 } as const;
const RETRY_MS = 10;

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

/**
 * Takes the VBD over, as `device.link`. False, with the reason logged and nothing changed: its
 * frontend must reconnect by itself. Throws XenstoreError.
 */
export async function reattach(device: Device, view: View): Promise<boolean> {
  try {
    const record = device.services.records.read(device.id);
    if (!record) throw new Error('the daemon that served it has left no record of it');
    await takeOver(device, view, record);
    return true;
  } catch (error) {
    if (!device.link) letGoOfMedium(device);
    // Tried again, unlike what is wrong with this VBD.
    if (error instanceof XenstoreError) throw error;
    device.error = `left connected, waiting for its frontend to reconnect: ${messageOf(error)}`;
    device.log.error({ error: messageOf(error) }, 'left connected; its frontend must reconnect');
    return false;
  }
}

async function takeOver(device: Device, view: View, record: VbdRecord): Promise<void> {
  const started = performance.now();
  const { agreement, target } = record;
  const nodes = await readTransport(device, view, LIMITS);
  if (transportKey(nodes) !== transportKey(agreement)) {
    throw new Error('its rings are not the ones that were served');
  }
  const linked = await onTrial(device, record);
  const ms = Math.round(performance.now() - started);
  const { config } = device.services;
  device.offer = makeOffer(config, device.medium?.target.capabilities);
  device.state = 'Connected';
  remember(device);
  const { replayed, redelivered } = linked.connection.counters();
  const from = { pid: record.pid, replayed, redelivered };
  device.log.info(
    { ms, ...from, agreement: summary(agreement), target: target.params },
    'taken over',
  );
}

/** What runs native code on what a dead daemon left; see take_overs.ts. */
async function onTrial(device: Device, record: VbdRecord): Promise<Link> {
  const { target, agreement } = record;
  const { datapath, takeOvers } = device.services;
  const { params, readOnly, ...spec } = target;
  const trial = takeOvers.begin(device.id);
  try {
    const opened = await datapath.openTarget({ ...spec, readOnly, takeOver: true });
    const medium: Medium = { params, spec, readOnly, target: opened };
    device.medium = medium;
    watchFence(device, medium);
    // That the target shrank is nothing a guest could be told.
    const sectors = Math.max(record.sectors, sectorsOf(opened.capabilities));
    const linked = await linkWhenFree(device, medium, agreement, sectors);
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
  agreement: Agreement,
  sectors: number,
): Promise<Link> {
  const deadline = performance.now() + device.services.timing.takeOverMs;
  for (;;) {
    try {
      return await link(device, medium, agreement, sectors, true);
    } catch (error) {
      const isBusy =
        error instanceof DatapathError && (error.code === 'EBUSY' || error.code === 'EINVAL');
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
