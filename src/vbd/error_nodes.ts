// SPDX-License-Identifier: Apache-2.0
// Where a VBD says what is wrong: the error node, the hotplug nodes that toolstacks wait for, the
// log.
import { publish } from '../blkif/backend_nodes.ts';
import { BACKEND_NODES } from '../blkif/features.ts';
import type { Device, View } from './device.ts';

// Well within xenstored's 2048 bytes per node.
const MESSAGE_MAX = 1000;

export async function writeError(device: Device, message: string, what: string): Promise<void> {
  device.error = message.slice(0, MESSAGE_MAX);
  device.log.error({ error: device.error }, what);
  await device.services.xenstore.write(device.errorNode, device.error);
}

/** The toolstack's nodes or the target are no good: libxl and xenopsd look at `hotplug-error`. */
export async function publishRefusal(device: Device, view: View, message: string): Promise<void> {
  await writeError(device, message, 'cannot be offered');
  await publish(device.services.xenstore, device.directory, view.backend.state, {
    hotplugStatus: 'error',
    hotplugError: message.slice(0, MESSAGE_MAX),
  });
}

/** Something succeeded. */
export async function clearError(device: Device): Promise<void> {
  if (device.error === undefined) return;
  device.error = undefined;
  const { xenstore } = device.services;
  await xenstore.remove(device.errorNode);
  await xenstore.remove(`${device.directory}/${BACKEND_NODES.hotplugError.node}`);
}
