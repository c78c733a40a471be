// SPDX-License-Identifier: Apache-2.0
// Where a VBD says what is wrong: the error node, the hotplug nodes that toolstacks wait for, the
// log.
import { publish } from '../blkif/backend_nodes.ts';
import { type Device, messageOf, type View } from './device.ts';

// Well within xenstored's 2048 bytes per node.
const MESSAGE_MAX = 1000;

/** The node is for toolstacks that show it: what matters is done without it, too. */
export async function writeError(device: Device, message: string, what: string): Promise<void> {
  const error = message.slice(0, MESSAGE_MAX);
  const isNew = device.error !== error;
  device.error = error;
  if (isNew) device.log.error({ error }, what);
  if (!isNew && device.errorNodeIs === 'there') return;
  device.errorNodeIs = 'there';
  try {
    await device.services.xenstore.write(device.errorNode, error);
  } catch (failure) {
    device.log.warn({ error: messageOf(failure) }, 'could not write the error node');
  }
}

/**
 * The toolstack's nodes or the target are no good: libxl and xenopsd look at `hotplug-error`, and
 * are told first.
 */
export async function publishRefusal(device: Device, view: View, message: string): Promise<void> {
  await publish(device.services.xenstore, device.directory, view.backend.state, {
    hotplugStatus: 'error',
    hotplugError: message.slice(0, MESSAGE_MAX),
  });
  await writeError(device, message, 'cannot be offered');
}

/** Something succeeded, or the device is gone: also what a former daemon wrote is not true. */
export async function clearError(device: Device): Promise<void> {
  const { xenstore } = device.services;
  device.error = undefined;
  if (device.errorNodeIs === 'gone') return;
  try {
    await xenstore.remove(device.errorNode);
    device.errorNodeIs = 'gone';
  } catch (failure) {
    device.log.warn({ error: messageOf(failure) }, 'could not remove the error node');
  }
}
