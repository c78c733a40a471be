// SPDX-License-Identifier: Apache-2.0
// From a fresh directory to Connected: open the target, offer, agree, connect, publish.
import { publish } from '../blkif/backend_nodes.ts';
import { Beside } from './beside.ts';
import { letGo } from './close.ts';
import type { Device, Link, Medium, View } from './device.ts';
import { readScriptWord } from './hotplug.ts';
import { followToolstack, limitSet } from './limits.ts';
import { currentMedia, openMedium, PROMPT_MS } from './media.ts';
import type { Agreement } from './negotiate.ts';
import { agree, makeOffer, type Offer, offerValues, sectorsOf } from './negotiate.ts';
import { listen, publishConnected, remember } from './run.ts';
import { readTransport } from './transport.ts';

/**
 * Offers the target and goes to InitWait. False: there is something to wait for. Throws what is
 * wrong with the toolstack's nodes or the target; nothing but the old link has changed then.
 */
export async function offer(device: Device, view: View): Promise<boolean> {
  letGo(device);
  const { problem, toolstack } = view.backend;
  if (problem) throw problem;
  if (toolstack.params === undefined) return false;
  const isOffered = device.state === 'InitWait' && view.backend.state === 'InitWait';
  const result = await openMedium(device, view);
  if (result === 'waiting') return false;
  if (result === 'unprepared' && device.isUnprepared && isOffered) return true;
  device.isUnprepared = result === 'unprepared';
  device.script.askedAt = undefined;
  device.askedTarget = undefined;
  const { config } = device.services;
  const { medium } = device;
  device.offer = makeOffer(config, medium?.target.capabilities);
  await publishOffer(device, view, device.offer);
  return true;
}

/** Where the toolstack names a script, what it waits for is that script's word, not ours. */
async function publishOffer(device: Device, view: View, offered: Offer): Promise<void> {
  const { xenstore } = device.services;
  const hasScript = view.backend.toolstack.script !== undefined;
  const hasFailed = hasScript && (await readScriptWord(device)).status === 'error';
  const result = await publish(
    xenstore,
    device.directory,
    view.backend.state,
    {
      ...offerValues(offered),
      ...(hasScript ? {} : { hotplugStatus: 'connected' }),
      kthreadPid: process.pid,
      state: 'InitWait',
    },
    ['hotplugError', ...(hasFailed ? (['hotplugStatus'] as const) : [])],
  );
  if (result === 'published') device.state = 'InitWait';
}

/** What is weaker on this medium than elsewhere: known when it has been claimed. */
export function tellWarnings(device: Device): void {
  for (const warning of device.medium?.target.capabilities.warnings ?? []) {
    device.log.warn({ target: device.medium?.params }, warning);
  }
}

/**
 * Makes the medium ours, before each connect. False: it is under way, and marks the VBD when
 * it is over. Throws DatapathError.
 */
export async function claim(device: Device): Promise<boolean> {
  const { medium } = device;
  if (!medium) return true;
  const { target } = medium;
  device.claiming ??= new Beside(target.claim({ takeOver: false }), device.mark);
  const outcome = await device.claiming.within(PROMPT_MS);
  if (!outcome) return false;
  // The next connect asks again: somebody else may be about to let go of it then.
  device.claiming = undefined;
  if ('value' in outcome) return true;
  throw outcome.error;
}

/**
 * Connects the data path and goes to Connected. False: the drive is empty. Throws NegotiationError
 * or DatapathError; nothing is mapped or bound then. The medium has been claimed, and nothing may
 * be let go of any more at this time.
 */
export async function connect(device: Device, view: View): Promise<boolean> {
  const { medium, services } = device;
  if (!medium || !device.offer) return false;
  const nodes = await readTransport(device, view, device.offer);
  const media = await currentMedia(device, view, medium);
  const agreement = agree(services.config, device.offer, media, nodes);
  const onError = medium.onError ?? services.config.onError;
  const sectors = sectorsOf(medium.target.capabilities, media);
  followToolstack(device, view);
  await link(device, medium, { agreement, onError, sectors }, false);
  remember(device);
  // From here on the data path is there, so we are Connected whatever xenstore says: if publishing
  // fails or the toolstack has just asked for a removal, the next look at the nodes finds out.
  device.state = 'Connected';
  await publishConnected(device, view);
  tellWarnings(device);
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
  { agreement, onError, sectors }: Pick<Link, 'agreement' | 'onError' | 'sectors'>,
  takeOver: boolean,
): Promise<Link> {
  const { datapath, config, records } = device.services;
  const queues = agreement.queues.map(({ ringRefs, eventChannel }, index) => {
    const journal = records.journal(device.id, index);
    return { ringRefs: [...ringRefs], eventChannel, journal, takeOver };
  });
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
    limits: limitSet(device),
    ...(device.mirror?.native && { mirror: device.mirror.native.handle }),
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
