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
  let count = 0;
  try {
    return await device.services.xenstore.transaction((requests) => {
      const read = nodeReader(requests, view.frontendDir ?? '');
      const counting = (node: string) => {
        count++;
        return read(node);
      };
      return readFrontendNodes(counting, limits);
    });
  } finally {
    device.charge(count);
  }
}

/** Equal for equal rings. */
export function transportKey(transport: Pick<FrontendNodes, 'abi' | 'queues'>): string {
  const queues = transport.queues.map(({ ringRefs, eventChannel }) => [ringRefs, eventChannel]);
  return JSON.stringify([transport.abi, queues]);
}
