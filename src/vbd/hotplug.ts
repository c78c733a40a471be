// SPDX-License-Identifier: Apache-2.0
// A toolstack that names a script runs it once we are in InitWait, and takes the device for
// attached when the script is through. libxl looks for InitWait and nothing else, however late: so
// we stay there until the script has spoken. One that never does costs a moment and no more.
import { BACKEND_NODES, MARK_NODE, SCRIPT_NODES } from '../blkif/features.ts';
import type { Device, View } from './device.ts';

// Installed by us: these prepare nothing.
const OUR_SCRIPTS = /(^|\/)block-(ringdisk|tap)$/;

export interface ScriptWord {
  readonly status: string | undefined;
  /** What it has prepared. */
  readonly devicePath: string | undefined;
}

/** Devices of this kind are QEMU's, unless a storage driver that knows us has made them. */
const SHARED_KIND = 'qdisk';

/** Whether the device may be ours to serve. Asked before anything else is done with it. */
export async function isOurs({ id, directory, services }: Device): Promise<boolean> {
  if (id.kind !== SHARED_KIND || services.force) return true;
  const { xenstore } = services;
  if ((await xenstore.read(`${directory}/${MARK_NODE}`)) !== undefined) return true;
  // One that is gone is nobody's.
  return (await xenstore.read(`${directory}/${BACKEND_NODES.state.node}`)) === undefined;
}

/** Whether somebody's script may still make the device. */
export function hasForeignScript(view: View): boolean {
  const { script } = view.backend.toolstack;
  return script !== undefined && !OUR_SCRIPTS.test(script);
}

export async function readScriptWord(device: Device): Promise<ScriptWord> {
  const { xenstore } = device.services;
  const { hotplugStatus, physicalDevicePath } = SCRIPT_NODES;
  const [status, text] = await Promise.all([
    xenstore.read(`${device.directory}/${hotplugStatus.node}`),
    xenstore.read(`${device.directory}/${physicalDevicePath.node}`),
  ]);
  const devicePath = text ? physicalDevicePath.type.parse(text) : undefined;
  return { status, devicePath };
}

/** It is through with what it prepares. */
export function hasPrepared({ status, devicePath }: ScriptWord): boolean {
  return status === 'connected' || devicePath !== undefined;
}

/**
 * Whether what was offered without a medium is worth another open. A script need not say a word to
 * libxl, and what it has made may appear later than it says.
 */
export async function mayBePrepared(device: Device): Promise<boolean> {
  const { backoff, script } = device;
  if (!device.isUnprepared) return false;
  if (!script.hasSpoken && hasPrepared(await readScriptWord(device))) {
    backoff.reset();
    return true;
  }
  if (backoff.dueMs === 0) return true;
  device.markIn(backoff.dueMs);
  return false;
}

/** Whether the frontend may be connected by now; if not, it is looked at again. */
export async function scriptIsThrough(device: Device, view: View): Promise<boolean> {
  const { script, services } = device;
  if (view.backend.toolstack.script === undefined || script.isSilent) return true;
  const { status } = await readScriptWord(device);
  if (status === 'connected') return true;
  // It failed: the toolstack takes the device back.
  if (status === 'error') return false;
  script.askedAt ??= performance.now();
  const restMs = script.askedAt + services.timing.scriptMs - performance.now();
  if (restMs > 0) {
    device.markIn(restMs);
    return false;
  }
  script.isSilent = true;
  const fields = { script: view.backend.toolstack.script };
  device.log.info(fields, 'its hotplug script says nothing: connecting without it');
  return true;
}
