// SPDX-License-Identifier: Apache-2.0
// A disk that is mirrored to another target while its guest uses it: begun, looked at, changed,
// ended, and switched, by which the target becomes the disk. What a mirror is on the data path
// native/channels/mirror_home.h says; how it outlives the daemon, mirror_resume.ts.
import { RingdiskError, showValue } from '../errors.ts';
import { confinementHint } from '../target/confinement.ts';
import { parseTarget } from '../target/target_spec.ts';
import { isOverWithin } from './beside.ts';
import { type Device, type DeviceMirror, type Medium, messageOf } from './device.ts';
import { vbdName } from './id.ts';
import { endMirror, mirrorUser } from './mirror_end.ts';
import { makeMirrorMap } from './mirror_map.ts';
import { remember, writeRecord } from './run.ts';
import { footprintOf, meetings } from './sharing.ts';
import type { TargetUse } from './target_entry.ts';

export interface MirrorStart {
  readonly target: string;
  readonly mode: 'copy' | 'sync';
  /** Bytes a second; 0: as fast as it goes. */
  readonly rate: number;
  readonly switchWhenReady: boolean;
}

/** Missing: as it is. */
export interface MirrorChange {
  readonly mode?: 'copy' | 'sync' | undefined;
  readonly rate?: number | undefined;
  readonly paused?: boolean | undefined;
}

export type MirrorCommand =
  | ({ readonly action: 'start' } & MirrorStart)
  | ({ readonly action: 'set' } & MirrorChange)
  | { readonly action: 'status' | 'stop' | 'switch' };

/** Throws MIRROR_NONE, MIRROR_REFUSED, TARGET_BUSY, TARGET_INVALID, VBD_NOT_READY or VBD_BUSY. */
export async function mirrorCommand(device: Device, command: MirrorCommand): Promise<void> {
  if (command.action === 'start') return start(device, command);
  required(device);
  if (command.action === 'set') return device.inTurn(async () => change(device, command));
  if (command.action === 'stop') return device.inTurn(() => stop(device));
  if (command.action === 'switch') return device.inTurn(() => askForSwitch(device));
}

async function start(device: Device, asked: MirrorStart): Promise<void> {
  const { kind = 'auto' as const, path } = destinationOf(asked.target);
  const medium = mayStart(device);
  const { openTargets, timing } = device.services;
  const signal = AbortSignal.timeout(timing.openMs);
  const spec = { kind, path, readOnly: false };
  const use = await openTargets
    .open(spec, mirrorUser(device), { takeOver: false, signal })
    .catch((error: unknown) => {
      if (signal.aborted) throw late(path);
      const hint = confinementHint(error, path);
      throw hint === undefined ? error : refused(`${messageOf(error)} ${hint}`);
    });
  try {
    checkDestination(medium, use, path);
    await use.claim({ takeOver: false, signal });
  } catch (error) {
    // One that hangs is closed when it has answered.
    await isOverWithin(
      use.close().catch(() => {}),
      timing.letGoMs,
    );
    throw signal.aborted ? late(path) : error;
  }
  await device.inTurn(() => begin(device, use, asked));
}

function late(path: string): RingdiskError {
  return refused(
    `${showValue(path)} has not answered for a while: its storage hangs, or another disk is ` +
      'about to let go of it.',
  );
}

function destinationOf(text: string): { kind?: Medium['spec']['kind']; path: string } {
  const { kind, path, ...options } = parseTarget(text);
  if (kind === 'fill') throw refused('A disk that is filled cannot be a mirror.');
  const [option] = Object.keys(options);
  if (option !== undefined) {
    throw refused(`${showValue(text)} has options: those of the disk hold for its mirror, too.`);
  }
  return { path, ...(kind && { kind }) };
}

/** Its medium. */
function mayStart(device: Device): Medium {
  const { link, medium, mirror } = device;
  const name = vbdName(device.id);
  if (!link || !medium || device.state !== 'Connected') {
    throw new RingdiskError('VBD_NOT_READY', `${name} is ${device.state}, not Connected.`);
  }
  if (mirror && mirror.failure === undefined) {
    throw refused(`${name} is mirrored to ${showValue(mirror.target.params)} already.`);
  }
  if (medium.share) {
    throw refused(`${name} is shared: what others write to it a mirror would miss.`);
  }
  if (link.agreement.readOnly) throw refused(`${name} is read only: copy its target instead.`);
  const fill = medium.target.fill();
  if (fill && !fill.full) {
    throw refused(`${name} is still being filled from its source: mirror it when it is full.`);
  }
  const writer = medium.target.others().find(({ readOnly }) => !readOnly);
  if (!writer) return medium;
  throw refused(
    `${writer.name} writes to the target of ${name} as well, which a mirror would miss.`,
  );
}

function checkDestination({ target, params }: Medium, use: TargetUse, path: string): void {
  const { capabilities: disk } = target;
  const { capabilities: there } = use;
  const name = showValue(path);
  if (there.identity === '') throw refused(`${name} keeps nothing of what is written to it.`);
  const isSame =
    there.identity === disk.identity ||
    meetings(footprintOf(there.identity, use.parts), footprintOf(disk.identity, target.parts))
      .length > 0;
  if (isSame) throw refused(`${name} is the disk itself (${showValue(params)}).`);
  const [user] = use.others();
  if (user) throw refused(`${name} is in use by ${user.name}.`);
  if (there.readOnly) throw refused(`${name} cannot be written to.`);
  if (there.capacity < disk.capacity) {
    throw refused(
      `${name} has ${there.capacity} bytes, the disk has ${disk.capacity}: make it at least as ` +
        'large.',
    );
  }
  if (there.ioAlignment <= disk.ioAlignment) return;
  throw refused(
    `${name} is written in blocks of ${there.ioAlignment} bytes, the disk in blocks of ` +
      `${disk.ioAlignment}: what the guest writes may not fit.`,
  );
}

async function begin(device: Device, use: TargetUse, asked: MirrorStart): Promise<void> {
  const mirror = await make(device, use, asked).catch(async (error: unknown) => {
    await use.close().catch(() => {});
    throw error;
  });
  const { native } = mirror;
  try {
    if (asked.switchWhenReady) maySwitch(device, mirror);
    if (native) await device.link?.connection.attach(native);
    await native?.give(use);
  } catch (error) {
    await device.link?.connection.detach().catch(() => {});
    await endMirror(device, mirror);
    throw refused(`It cannot be mirrored: ${messageOf(error)}.`);
  }
  device.mirror = mirror;
  follow(device, mirror);
  remember(device);
  device.log.info({ target: asked.target, mode: asked.mode }, 'mirrored from now on');
}

/** Of the data path, and attached to nothing. */
async function make(device: Device, use: TargetUse, asked: MirrorStart): Promise<DeviceMirror> {
  const { datapath, records } = device.services;
  // One that has failed.
  if (device.mirror) await release(device, device.mirror);
  const medium = mayStart(device);
  const { path, kind: askedKind } = destinationOf(asked.target);
  // Somebody may have come while it was claimed.
  checkDestination(medium, use, path);
  const { identity: source, capacity } = medium.target.capabilities;
  const { identity, kind } = use.capabilities;
  const { mode, rate, switchWhenReady } = asked;
  const mapPath = records.mirrorMap(device.id);
  makeMirrorMap(mapPath, capacity, { source, destination: identity });
  const setup = { mapPath, isNew: true, sync: mode === 'sync', paused: false, rate };
  medium.target.keepAlone(true);
  use.keepAlone(true);
  const native = await datapath.makeMirror(medium.target, setup).catch((error: unknown) => {
    medium.target.keepAlone(false);
    throw error;
  });
  return {
    target: { params: asked.target, kind: askedKind ?? kind, path, identity, parts: use.parts },
    wish: { mode, paused: false, rate, switchWhenReady },
    ...{ use, native, failure: undefined, problem: undefined },
    abandon: new AbortController(),
  };
}

/** What becomes of it by itself is looked at in turn. */
export function follow(device: Device, mirror: DeviceMirror): void {
  mirror.native?.onChange(() => look(device, mirror));
  look(device, mirror);
}

function look(device: Device, mirror: DeviceMirror): void {
  void device
    .inTurn(() => lookAt(device, mirror))
    .catch((error: unknown) => {
      device.log.error({ error: messageOf(error) }, 'a mirror could not be looked after');
    });
}

async function lookAt(device: Device, mirror: DeviceMirror): Promise<void> {
  const status = mirror.native?.status();
  if (device.mirror !== mirror || !status) return;
  if (status.error !== '') return fail(device, mirror, reasonOf(status.error));
  if (!mirror.wish.switchWhenReady) return;
  // From here on it gains on the guest, however fast that writes.
  if (status.swept && mirror.wish.mode === 'copy') return change(device, { mode: 'sync' });
  if (!status.ready) return;
  try {
    await switchNow(device, mirror);
  } catch (error) {
    const message = messageOf(error);
    if (mirror.problem !== message) device.log.warn({ error: message }, 'not switched yet');
    mirror.problem = message;
    // Made unready by what the guest writes it becomes ready again, and is looked at then.
    if (!mirror.native?.status()?.ready) return;
    setTimeout(() => look(device, mirror), device.services.timing.again.firstMs).unref();
  }
}

function reasonOf(error: string): string {
  if (error === 'ETIMEDOUT') return 'its target has not answered for too long';
  if (error === 'EFBIG') return 'the disk is larger than when it began';
  return `its target failed with ${error}`;
}

/** The guest goes on with the source, and notices nothing. */
export async function fail(device: Device, mirror: DeviceMirror, reason: string): Promise<void> {
  mirror.failure = reason;
  mirror.problem = undefined;
  device.log.warn({ target: mirror.target.params, reason }, 'the mirror has failed');
  if (device.link) remember(device);
  await release(device, mirror).catch((error: unknown) => {
    device.log.warn({ error: messageOf(error) }, 'the failed mirror is let go of later');
  });
}

/** It is over; its filters go. Throws what is in the way, and they only hand on then. */
async function release(device: Device, mirror: DeviceMirror): Promise<void> {
  const { letGoMs } = device.services.timing;
  if (mirror.native) await device.link?.connection.detach();
  // A connection that is ending has it still.
  if (!(await isOverWithin(device.lettingGo, letGoMs))) {
    throw new RingdiskError('VBD_BUSY', 'the last I/O of the disk is not over');
  }
  await endMirror(device, mirror);
}

function change(device: Device, { mode, rate, paused }: MirrorChange): void {
  const mirror = required(device);
  const { wish, native } = mirror;
  mirror.wish = {
    ...wish,
    mode: mode ?? wish.mode,
    rate: rate ?? wish.rate,
    paused: paused ?? wish.paused,
  };
  native?.set({ ...mirror.wish, sync: mirror.wish.mode === 'sync' });
  remember(device);
}

async function stop(device: Device): Promise<void> {
  const mirror = required(device);
  mirror.native?.end();
  device.mirror = undefined;
  remember(device);
  try {
    await release(device, mirror);
  } catch (error) {
    device.mirror = mirror;
    mirror.failure ??= 'it was stopped';
    remember(device);
    throw new RingdiskError('VBD_BUSY', `It mirrors no more, but ${messageOf(error)}.`);
  }
  device.log.info({ target: mirror.target.params }, 'no longer mirrored');
}

/** At once where it is ready, else when it is. */
async function askForSwitch(device: Device): Promise<void> {
  const mirror = required(device);
  if (mirror.failure !== undefined) {
    throw refused(`The mirror has failed (${mirror.failure}): its target is not the disk's copy.`);
  }
  maySwitch(device, mirror);
  change(device, { mode: 'sync', paused: false });
  if (mirror.native?.status()?.ready) return switchNow(device, mirror);
  mirror.wish = { ...mirror.wish, switchWhenReady: true };
  remember(device);
  // It may have become so just now.
  follow(device, mirror);
}

function maySwitch(device: Device, { use, native }: DeviceMirror): Medium {
  const { link, medium } = device;
  if (!link || !medium || device.state !== 'Connected') {
    throw new RingdiskError('VBD_NOT_READY', `The VBD is ${device.state}, not Connected.`);
  }
  const [other] = medium.target.others();
  if (other) throw refused(`${other.name} uses the disk's target: end that first`);
  if (use?.capabilities.oneChannel) {
    throw refused('its NBD server takes one connection at a time, and the mirror has it');
  }
  if (native?.status()?.error) throw refused('it has failed');
  return medium;
}

/**
 * The target becomes the disk. Its record says so when nothing of the guest's is under way, and
 * before anything more is: so whoever comes after a death at any moment serves what has all that
 * the guest was answered for.
 */
async function switchNow(device: Device, mirror: DeviceMirror): Promise<void> {
  const medium = maySwitch(device, mirror);
  const { link } = device;
  const { use, native, target } = mirror;
  if (!link || !use || !native) throw refused('it waits for its target');
  const { kind, path, params } = target;
  const next: Medium = { ...medium, spec: { kind, path }, isSwitched: true, target: use };
  await link.connection.switchTo(() => {
    if (!native.status()?.ready) throw refused('it is not ready any more; it will be again');
    writeRecord(device, link, next, undefined);
    device.medium = next;
    device.mirror = undefined;
  });
  use.keepAlone(false);
  medium.target.leave();
  await endMirror(device, mirror, { keepsTarget: true });
  void medium.target.close().catch((error: unknown) => {
    device.log.error({ error: messageOf(error) }, 'could not close what was mirrored');
  });
  device.log.info({ target: params, before: medium.params }, 'switched to the mirror');
}

function required({ id, mirror, recorded, link }: Device): DeviceMirror {
  if (mirror) return mirror;
  if (recorded && !link) {
    throw new RingdiskError(
      'VBD_NOT_READY',
      `${vbdName(id)} is about to be taken over from the daemon before: ask again.`,
    );
  }
  throw new RingdiskError('MIRROR_NONE', `${vbdName(id)} is not mirrored.`);
}

function refused(message: string): RingdiskError {
  return new RingdiskError('MIRROR_REFUSED', message);
}
