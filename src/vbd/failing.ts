// SPDX-License-Identifier: Apache-2.0
// A device that fails: the requests that wait for it are told of here. Each queue says once that it
// began to try again, and once that everything went through.
import type { Connection } from '../datapath/connection.ts';
import type { Device } from './device.ts';

export function watchFailures(device: Device, connection: Connection): void {
  // What was sent before a connection ended may arrive after that.
  const isCurrent = () => device.link?.connection === connection;
  connection.on('io-failing', (queue, error) => {
    if (!isCurrent()) return;
    device.failing ??= beginsToFail(device, error);
    device.failing.queues.add(queue);
  });
  connection.on('io-recovered', (queue) => {
    const { failing } = device;
    if (!isCurrent() || !failing) return;
    failing.queues.delete(queue);
    if (failing.queues.size > 0) return;
    device.failing = undefined;
    const ms = Date.now() - failing.since.getTime();
    device.log.info({ ms }, 'the target works again: what waited for it has been done');
  });
}

function beginsToFail(device: Device, error: string): NonNullable<Device['failing']> {
  device.log.warn({ error }, 'the target fails: requests wait for it and are tried again');
  return { since: new Date(), error, queues: new Set() };
}
