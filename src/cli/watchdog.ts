// SPDX-License-Identifier: Apache-2.0
// Tells systemd that the control plane is alive, from its event loop: when that is stuck, no disk
// can be attached, detached or closed, and nobody would notice while guests do their I/O. systemd
// then aborts the daemon, and the next one goes on with the disks.

/** Starts it where the unit has WatchdogSec=; `notify` says whether systemd was told. */
export function startWatchdog(
  notify: (state: string) => boolean,
  env: NodeJS.ProcessEnv = process.env,
): NodeJS.Timeout | undefined {
  const { WATCHDOG_USEC, WATCHDOG_PID } = env;
  const periodMs = Number(WATCHDOG_USEC) / 1000;
  const isOurs = WATCHDOG_PID === undefined || WATCHDOG_PID === String(process.pid);
  if (!(periodMs > 0) || !isOurs) return undefined;
  // A daemon that is late by a whole beat is not stuck.
  return setInterval(() => notify('WATCHDOG=1'), periodMs / 4).unref();
}
