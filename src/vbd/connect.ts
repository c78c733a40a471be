// SPDX-License-Identifier: Apache-2.0
// From a fresh directory to Connected: open the target, offer, agree, connect, publish.
import { publish } from '../blkif/backend_nodes.ts';
import { parseTarget } from '../target/target_spec.ts';
import { letGo } from './close.ts';
import type { Device, Link, Medium, View } from './device.ts';
import type { Agreement } from './info.ts';
import { currentMedia, openMedium } from './media.ts';
import { agree, makeOffer, offerValues, sectorsOf } from './negotiate.ts';
import { listen, publishConnected, remember } from './run.ts';
import { readTransport } from './transport.ts';

/**
 * Opens the target and goes to InitWait. False: the toolstack has not written `params` yet. Throws
 * what is wrong with the toolstack's nodes or the target; nothing but the old link has changed
 * then.
 */
export async function offer(device: Device, view: View): Promise<boolean> {
  letGo(device);
  if (view.backend.problem) throw view.backend.problem;
  if (view.backend.toolstack.params === undefined) return false;
  await openMedium(device, view);
  const { config, xenstore } = device.services;
  device.offer = makeOffer(config, device.medium?.target.capabilities);
  const result = await publish(xenstore, device.directory, view.backend.state, {
    ...offerValues(device.offer),
    hotplugStatus: 'connected',
    kthreadPid: process.pid,
    state: 'InitWait',
  });
  if (result === 'published') device.state = 'InitWait';
  return true;
}

/**
 * Connects the data path and goes to Connected. False: the drive is empty. Throws NegotiationError
 * or DatapathError; nothing is mapped or bound then. Nothing may be let go of any more at this
 * time.
 */
export async function connect(device: Device, view: View): Promise<boolean> {
  const { medium, services } = device;
  if (!medium || !device.offer) return false;
  const nodes = await readTransport(device, view, device.offer);
  const media = await currentMedia(device, view, medium);
  const agreement = agree(services.config, device.offer, media, nodes);
  await link(device, medium, agreement, sectorsOf(medium.target.capabilities), false);
  remember(device);
  // From here on the data path is there, so we are Connected whatever xenstore says: if publishing
  // fails or the toolstack has just asked for a removal, the next look at the nodes finds out.
  device.state = 'Connected';
  await publishConnected(device, view);
  device.log.info({ agreement: summary(agreement), target: medium.params }, 'connected');
  return true;
}

/**
 * The data path's part of a connect or take-over, as `device.link`. `sectors`: the capacity that
 * the guest is told.
 */
export async function link(
  device: Device,
  medium: Medium,
  agreement: Agreement,
  sectors: number,
  takeOver: boolean,
): Promise<Link> {
  const { datapath, config, records } = device.services;
  const queues = agreement.queues.map(({ ringRefs, eventChannel }, index) => {
    const journal = records.journal(device.id, index);
    return { ringRefs: [...ringRefs], eventChannel, journal, takeOver };
  });
  const onError = parseTarget(medium.params).onError ?? config.onError;
  const connection = await datapath.connect(medium.target, {
    domid: device.id.domid,
    devid: device.id.devid,
    abi: agreement.abi,
    queues,
    grants: agreement.grants,
    onError,
    readOnly: agreement.readOnly,
    discard: agreement.discard,
    secureDiscard: agreement.secureDiscard,
    indirectSegmentsMax: agreement.indirectSegmentsMax,
    sectors,
    persistentPagesMax: config.persistentPagesPerVbd,
  });
  device.link = { connection, agreement, onError, sectors };
  listen(device, connection);
  return device.link;
}

/** For a log line: without the queues' grant references. */
export function summary(agreement: Agreement): object {
  const { queues, ...rest } = agreement;
  return { ...rest, queues: queues.length };
}
