// SPDX-License-Identifier: Apache-2.0
// Which rings a frontend has: read, and told apart.
import {
  type FrontendLimits,
  type FrontendNodes,
  readFrontendNodes,
} from '../blkif/frontend_nodes.ts';
import { type Device, nodeReader, type View } from './device.ts';

/** One transaction, so that half a change of the nodes is never seen. Throws NegotiationError. */
export async function readTransport(
  device: Device,
  view: View,
  limits: FrontendLimits,
): Promise<FrontendNodes> {
  return device.services.xenstore.transaction((requests) =>
    readFrontendNodes(nodeReader(requests, view.frontendDir ?? ''), limits),
  );
}

/** Equal for equal rings. */
export function transportKey(transport: Pick<FrontendNodes, 'abi' | 'queues'>): string {
  const queues = transport.queues.map(({ ringRefs, eventChannel }) => [ringRefs, eventChannel]);
  return JSON.stringify([transport.abi, queues]);
}
