// SPDX-License-Identifier: Apache-2.0
import { rmSync } from 'node:fs';
import { type Device, type DeviceMirror, messageOf } from './device.ts';
import { vbdName } from './id.ts';
import type { TargetUser } from './sharing.ts';

/** As who the destination of a mirror is used. */
export function mirrorUser({ id }: Device): TargetUser {
  return { name: `mirror of ${vbdName(id)}`, domid: id.domid, readOnly: false, share: false };
}

/**
 * Lets go of what a mirror holds; no connection has it. Resolves when the disk's own target is
 * free. The destination may hang, and is closed when it has answered. `keepsTarget`: it has become
 * the disk.
 */
export async function endMirror(
  device: Device,
  mirror: DeviceMirror,
  { keepsTarget = false }: { keepsTarget?: boolean } = {},
): Promise<void> {
  const { native, use } = mirror;
  mirror.native = undefined;
  mirror.use = undefined;
  mirror.abandon.abort();
  device.medium?.target.keepAlone(false);
  const { openTargets, records } = device.services;
  openTargets.release(mirrorUser(device).name);
  // What could not be taken over may be tried again.
  if (!device.recorded || device.link) rmSync(records.mirrorMap(device.id), { force: true });
  if (!keepsTarget) use?.leave();
  const report = (error: unknown) =>
    device.log.error({ error: messageOf(error) }, 'could not let go of a mirror');
  const isFree = native?.close().catch(report);
  const before = device.mirrorEnding;
  const over = Promise.all([before, isFree])
    .then(() => native?.gone)
    .then(() => (keepsTarget ? undefined : use?.close()))
    .catch(report);
  const whole = over.then(() => {
    if (device.mirrorEnding === whole) device.mirrorEnding = undefined;
  });
  device.mirrorEnding = whole;
  await isFree;
}
