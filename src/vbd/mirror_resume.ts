// SPDX-License-Identifier: Apache-2.0
// Going on with the mirror of a disk that is taken over. From the guest's first request on the data
// path notes what is written; the target is opened beside that, may take as long as it likes, and
// is tried again. The copying goes on where the map says.
import { rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Backoff } from './backoff.ts';
import { type Device, type DeviceMirror, type Medium, messageOf } from './device.ts';
import { fail, follow } from './mirror.ts';
import { mirrorUser } from './mirror_end.ts';
import { checkMirrorMap } from './mirror_map.ts';
import type { VbdRecord } from './record.ts';
import type { TargetUse } from './target_entry.ts';

/** As `device.mirror`, before the disk is connected. */
export async function resumeMirror(
  device: Device,
  medium: Medium,
  record: VbdRecord,
): Promise<void> {
  if (!record.mirror) return;
  const { failure, mode, paused, rate, switchWhenReady, ...target } = record.mirror;
  const mirror: DeviceMirror = {
    target,
    wish: { mode, paused, rate, switchWhenReady },
    ...{ use: undefined, native: undefined, failure, problem: undefined },
    abandon: new AbortController(),
  };
  device.mirror = mirror;
  if (failure !== undefined) return;
  const { datapath, records } = device.services;
  const mapPath = records.mirrorMap(device.id);
  const { identity: source } = medium.target.capabilities;
  try {
    if (medium.target.others().some((other) => !other.readOnly)) {
      throw new Error('somebody else writes to the disk');
    }
    checkMirrorMap(mapPath, { source, destination: target.identity });
    const setup = { mapPath, isNew: false, sync: mode === 'sync', paused, rate };
    mirror.native = await datapath.makeMirror(medium.target, setup);
    medium.target.keepAlone(true);
  } catch (error) {
    // What is written from now on nobody notes: nobody is to go on by it later.
    rmSync(mapPath, { force: true });
    device.services.openTargets.release(mirrorUser(device).name);
    mirror.failure = `it could not be gone on with: ${messageOf(error)}`;
    device.log.warn({ target: target.params, reason: mirror.failure }, 'the mirror has failed');
  }
}

/** Once the disk is connected. */
export function bringDestination(device: Device): void {
  const { mirror } = device;
  if (!mirror?.native) return;
  void bring(device, mirror).catch(async (error: unknown) => {
    if (device.mirror !== mirror) return;
    mirror.native?.end();
    await device.inTurn(() => fail(device, mirror, messageOf(error)));
  });
}

async function bring(device: Device, mirror: DeviceMirror): Promise<void> {
  const use = await openPatiently(device, mirror);
  const isWanted = () => device.mirror === mirror && mirror.native !== undefined;
  if (!use || !isWanted()) return use?.close();
  mirror.use = use;
  mirror.problem = undefined;
  device.services.openTargets.release(mirrorUser(device).name);
  use.keepAlone(true);
  const writer = use.others().find(({ readOnly }) => !readOnly);
  if (writer) throw new Error(`its target is in use by ${writer.name}`);
  if (use.capabilities.identity !== mirror.target.identity) {
    throw new Error('another medium is in the place of its target');
  }
  // Nothing of the dead daemon's may land on what is copied now.
  await use.fence;
  if (!isWanted()) return;
  await mirror.native?.give(use);
  follow(device, mirror);
  device.log.info({ target: mirror.target.params }, 'the mirror goes on');
}

/** Claimed. undefined: nobody waits for it any more. */
async function openPatiently(device: Device, mirror: DeviceMirror): Promise<TargetUse | undefined> {
  const { openTargets, timing } = device.services;
  const { kind, path } = mirror.target;
  const user = mirrorUser(device);
  const backoff = new Backoff(timing.again);
  const { signal } = mirror.abandon;
  while (!signal.aborted) {
    let use: TargetUse | undefined;
    try {
      const spec = { kind, path, readOnly: false };
      use = await openTargets.open(spec, user, { takeOver: true, signal });
      await use.claim({ takeOver: true });
      return use;
    } catch (error) {
      await use?.close().catch(() => {});
      mirror.problem = messageOf(error);
      backoff.failed();
    }
    await sleep(backoff.dueMs, undefined, { signal, ref: false }).catch(() => {});
  }
  return undefined;
}
