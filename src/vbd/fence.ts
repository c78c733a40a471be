// SPDX-License-Identifier: Apache-2.0
// A daemon that was killed leaves I/O behind which the kernel still carries out. Until it is over
// the data path holds writes back, so that none of it lands on top of a newer one. Here it is told.
import type { Device, Medium } from './device.ts';

const REMINDER_MS = 30_000;

export function watchFence(device: Device, medium: Medium): void {
  const { fence } = medium.target;
  if (!fence) return;
  const since = new Date();
  device.fencedSince = since;
  const started = performance.now();
  const ms = () => Math.round(performance.now() - started);
  const remind = () => {
    device.log.warn({ ms: ms() }, 'writes wait until the I/O of the daemon before us is over');
  };
  remind();
  const timer = setInterval(remind, REMINDER_MS).unref();
  void fence.then(() => {
    clearInterval(timer);
    if (device.fencedSince === since) device.fencedSince = undefined;
    // Closed before it was over?
    if (device.medium === medium) device.log.info({ ms: ms() }, 'that I/O is over: writes go on');
  });
}
