// SPDX-License-Identifier: Apache-2.0
// Offers and connects that fail: what the toolstack wrote wrong waits for other nodes, what the
// environment does not give is tried again by itself.
import { DatapathError } from '../datapath/datapath.ts';
import { RingdiskError } from '../errors.ts';
import { claim, connect, offer } from './connect.ts';
import type { Device, View } from './device.ts';
import { clearError, publishRefusal, writeError } from './error_nodes.ts';
import { readScriptWord, scriptIsThrough } from './hotplug.ts';
import type { Intent } from './intent.ts';
import { isPassing, lateOpen } from './reattach.ts';

/** Errors that are answered with a refusal; others are xenstore's and pass. */
export function isRefusal(error: unknown): error is Error {
  return error instanceof RingdiskError || error instanceof DatapathError;
}

/** True: offered. False: there is something to wait for, and who has to know knows it. */
export async function tryOffer(device: Device, view: View, intent: Intent): Promise<boolean> {
  const { backoff } = device;
  const refusal = intent.refusal(view);
  if (refusal === 'final' && (await isTold(device))) return false;
  const isWaitedFor = device.isUnprepared && !intent.isStale(view);
  if (refusal === undefined && !device.opening && !isWaitedFor) backoff.reset();
  if (!device.opening && backoff.dueMs > 0) {
    device.markIn(backoff.dueMs);
    return false;
  }
  try {
    if (!(await offer(device, view))) {
      await tellLateOffer(device, view);
      return false;
    }
  } catch (error) {
    if (!isRefusal(error)) throw error;
    await refuseOffer(device, view, intent, error);
    return false;
  }
  intent.offered(view);
  if (device.isUnprepared) backoff.failed();
  else backoff.reset();
  await clearError(device);
  return true;
}

/** Not where the toolstack has made the directory anew: it waits for an answer in that one. */
async function isTold(device: Device): Promise<boolean> {
  return (await readScriptWord(device)).status !== undefined;
}

async function refuseOffer(
  device: Device,
  view: View,
  intent: Intent,
  error: Error,
): Promise<void> {
  const isFinal =
    error instanceof RingdiskError &&
    (error.code === 'TARGET_INVALID' || error.code === 'BACKEND_NODE_INVALID');
  const isSame = intent.refusal(view) !== undefined && device.error === error.message;
  const isKnown = isSame && (await isTold(device));
  // First, or what cannot be published now would never be.
  if (!isKnown) await publishRefusal(device, view, error.message);
  intent.refused(view, isFinal);
  if (isFinal) return;
  const isHeld = error instanceof RingdiskError && error.code === 'TARGET_BUSY';
  if (isHeld) device.services.openTargets.onRelease(device.hurry);
  device.backoff.failed();
  device.markIn(device.backoff.dueMs);
}

/** The toolstack gives up after 10 s: it is told why. The open goes on. */
async function tellLateOffer(device: Device, view: View): Promise<void> {
  const { opening, services } = device;
  if (!opening || (opening.isToldLate && (await isTold(device)))) return;
  const { openMs } = services.timing;
  const restMs = openMs - opening.beside.ms;
  if (restMs > 0) {
    device.markIn(restMs);
    return;
  }
  await publishRefusal(device, view, `${lateOpen(opening.path, openMs)}.`);
  opening.isToldLate = true;
}

/** True: connected. False: as tryOffer(). Throws what the frontend is to be refused for. */
export async function tryConnect(device: Device, view: View): Promise<boolean> {
  const { backoff, medium } = device;
  if (!medium || !(await scriptIsThrough(device, view))) return false;
  if (backoff.dueMs > 0) {
    device.markIn(backoff.dueMs);
    return false;
  }
  try {
    if (!(await claimed(device))) return false;
    if (!(await connect(device, view))) return false;
  } catch (error) {
    if (!(error instanceof NotOurs) && !isPassing(error)) throw error;
    backoff.failed();
    device.markIn(backoff.dueMs);
    const message = `${(error as Error).message} (it is tried again by itself)`;
    await writeError(device, message, 'cannot be connected yet');
    return false;
  }
  backoff.reset();
  await clearError(device);
  return true;
}

/** Whatever a claim fails with is no fault of the frontend's. */
class NotOurs extends Error {}

async function claimed(device: Device): Promise<boolean> {
  try {
    return await claim(device);
  } catch (error) {
    throw new NotOurs((error as Error).message);
  }
}
