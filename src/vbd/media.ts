// SPDX-License-Identifier: Apache-2.0
// The target behind a VBD: opened, kept over reconnects, exchanged while nothing is connected.
import { FRONTEND_NODES } from '../blkif/features.ts';
import { confinementHint } from '../target/confinement.ts';
import { parseTarget, resolveTarget } from '../target/target_spec.ts';
import { letGoOfMedium } from './close.ts';
import { type Device, type Medium, nodeReader, type View } from './device.ts';
import { describeMedia, isCdrom, type Media } from './negotiate.ts';

/**
 * Opens what the toolstack asks for as `device.medium`; none for an empty CD drive. An open target
 * that is still the right one stays, with its size read again. Throws TargetSpecError or
 * DatapathError.
 */
export async function openMedium(device: Device, view: View): Promise<void> {
  const { params = '' } = view.backend.toolstack;
  const cdrom = await readCdrom(device, view);
  const readOnly = isReadOnly(view, cdrom);
  const { medium } = device;
  if (medium && medium.params === params && medium.readOnly === readOnly) {
    await medium.target.refresh();
    return;
  }
  letGoOfMedium(device);
  // A drive without a disc is offered all the same; it connects when a disc is there.
  if (params === '' && cdrom) return;
  device.medium = await openTarget(device, params, readOnly);
}

async function openTarget(device: Device, params: string, readOnly: boolean): Promise<Medium> {
  const parsed = parseTarget(params);
  const { datapath } = device.services;
  try {
    const spec = await resolveTarget(parsed);
    const target = await datapath.openTarget({ ...spec, readOnly, takeOver: false });
    return { params, spec, readOnly, target };
  } catch (error) {
    throw withHint(error as Error, confinementHint(error, parsed.path));
  }
}

function withHint(error: Error, hint: string | undefined): Error {
  if (hint !== undefined) error.message = `${error.message.replace(/\.$/, '')}. ${hint}`;
  return error;
}

/** xl writes the device type into both directories, XAPI only into the frontend's. */
export async function readCdrom(device: Device, view: View): Promise<boolean> {
  const { toolstack } = view.backend;
  if (toolstack.deviceType !== undefined || view.frontendDir === undefined) {
    return isCdrom(toolstack, undefined);
  }
  const read = nodeReader(device.services.xenstore, view.frontendDir);
  return isCdrom(toolstack, await read(FRONTEND_NODES.deviceType.node));
}

export function isReadOnly(view: View, cdrom: boolean): boolean {
  return view.backend.toolstack.mode === 'r' || cdrom;
}

export async function currentMedia(device: Device, view: View, medium: Medium): Promise<Media> {
  const cdrom = await readCdrom(device, view);
  return describeMedia(view.backend.toolstack, cdrom, medium.target.capabilities);
}
