// SPDX-License-Identifier: Apache-2.0
// Leaving a connected VBD for the next daemon, and going on with one. The daemon that leaves
// empties the rings first: every request that was taken is answered. A node in our directory says
// so, and with which rings; without that node nobody can know what was in flight.
import * as v from 'valibot';
import { publish } from '../blkif/backend_nodes.ts';
import { BACKEND_NODES } from '../blkif/features.ts';
import type { FrontendNodes } from '../blkif/frontend_nodes.ts';
import type { Connection } from '../datapath/datapath.ts';
import { XenstoreError } from '../xenstore/client.ts';
import { letGo, letGoOfMedium } from './close.ts';
import { link, summary } from './connect.ts';
import { type Device, type Link, messageOf, nodeReader, type View } from './device.ts';
import { isReadOnly, openTarget, readCdrom } from './media.ts';
import { makeOffer } from './negotiate.ts';
import { announceSize } from './run.ts';
import { readTransport, transportDigest } from './transport.ts';

const markerSchema = v.strictObject({
  version: v.literal(1),
  /** Digest of layout, ring references and ports. */
  transport: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
  // The frontend goes on with what it was promised, whatever the configuration says by now.
  grants: v.picklist(['persistent', 'copy', 'map']),
  indirectSegmentsMax: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(256)),
  readOnly: v.boolean(),
  discard: v.boolean(),
  secureDiscard: v.boolean(),
  sectors: v.pipe(v.number(), v.integer(), v.minValue(0)),
});

type Marker = v.InferOutput<typeof markerSchema>;

// What was negotiated once is within these, whatever is offered today.
const LIMITS = { queuesMax: 16, ringPageOrderMax: 4 } as const;

/**
 * Empties the rings, lets go of them and says so; the VBD stays Connected for its guest. Does
 * nothing where the VBD is not connected.
 */
export async function leave(device: Device): Promise<void> {
  if (!device.link || device.state !== 'Connected') return;
  const left = device.link;
  letGo(device);
  if ((await isDrained(left.connection)) && (await writeMarker(device, markerOf(left)))) {
    device.log.info({}, 'left connected for the next start, rings drained');
  } else {
    device.log.error({}, 'left unmarked: the next start cannot go on with it');
  }
}

function isDrained(connection: Connection): Promise<boolean> {
  // What goes wrong is logged by letGo(), which asked first.
  return connection.disconnect().then(
    ({ drained }) => drained,
    () => false,
  );
}

/**
 * Goes on with a VBD that was left Connected. False, with the reason logged and nothing changed:
 * its frontend must reconnect by itself. Throws XenstoreError.
 */
export async function resume(device: Device, view: View): Promise<boolean> {
  try {
    const marker = await readMarker(device);
    if (!marker) throw new Error('the daemon that served it is gone without draining its rings');
    const nodes = await readTransport(device, view, LIMITS);
    if (transportDigest(nodes) !== marker.transport) {
      throw new Error('its rings are not the ones that were drained');
    }
    await relink(device, view, marker, nodes);
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

async function relink(
  device: Device,
  view: View,
  marker: Marker,
  nodes: FrontendNodes,
): Promise<void> {
  const { xenstore, config } = device.services;
  const { params = '' } = view.backend.toolstack;
  const readOnly = isReadOnly(view, await readCdrom(device, view));
  device.medium = await openTarget(device, params, readOnly);
  const { version, transport, sectors, ...promised } = marker;
  const { abi, queues, ringPageOrder } = nodes;
  const agreement = { ...promised, abi, queues, ringPageOrder };
  // Gone before the first request is taken: if we die now, nobody may believe it.
  await xenstore.remove(`${device.directory}/${BACKEND_NODES.drained.node}`);
  const linked = await link(device, device.medium, agreement).catch(async (error: unknown) => {
    await writeMarker(device, marker);
    throw error;
  });
  device.offer = makeOffer(config, device.medium.target.capabilities);
  device.state = 'Connected';
  await publish(xenstore, device.directory, 'Connected', { kthreadPid: process.pid });
  // It may have grown meanwhile; that it shrank is nothing a guest could be told.
  linked.sectors = Math.max(sectors, linked.sectors);
  await announceSize(device, linked);
  device.log.info({ agreement: summary(agreement), target: params }, 'resumed');
}

function markerOf({ agreement, sectors }: Link): Marker {
  const { abi, queues, ringPageOrder, ...promised } = agreement;
  return { version: 1, transport: transportDigest({ abi, queues }), ...promised, sectors };
}

/** False: the VBD is not Connected any more, or gone. */
async function writeMarker(device: Device, marker: Marker): Promise<boolean> {
  const { xenstore } = device.services;
  const drained = JSON.stringify(marker);
  return (await publish(xenstore, device.directory, 'Connected', { drained })) === 'published';
}

async function readMarker(device: Device): Promise<Marker | undefined> {
  const read = nodeReader(device.services.xenstore, device.directory);
  const text = await read(BACKEND_NODES.drained.node);
  if (text === undefined) return undefined;
  try {
    return v.parse(markerSchema, JSON.parse(text));
  } catch {
    throw new Error('the mark of the daemon that served it cannot be read');
  }
}
