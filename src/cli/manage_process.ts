// SPDX-License-Identifier: Apache-2.0
// The volume manager's process. It keeps nothing in memory that ZFS does not know: it may be killed
// at any time, and the next one finishes what was left.
import { lockRuntimeDir } from '../control/lock.ts';
import { makeRuntimeDir } from '../control/runtime_dir.ts';
import { serveMethods } from '../control/server.ts';
import { native } from '../datapath/binding.ts';
import { createLogger } from '../log.ts';
import { jobHandlers } from '../replication/handlers.ts';
import { Jobs } from '../replication/jobs.ts';
import { startSmapi } from '../smapi/smapi.ts';
import { packageVersion } from '../version.ts';
import { manageHandlers } from '../volume/manage_handlers.ts';
import { MANAGE_METHODS, manageSocketPath } from '../volume/manage_protocol.ts';
import { makeManager, openContext } from '../volume/manager.ts';
import { startProcess } from '../zfs/process.ts';

export interface ManageOptions {
  runtimeDir: string;
  /** Of the daemon that serves the disks. */
  daemonRuntimeDir: string;
}

/** Resolves when it has been asked to end. */
export async function manage({ runtimeDir, daemonRuntimeDir }: ManageOptions): Promise<void> {
  const log = createLogger({ level: 'info' });
  const ended = untilAsked();
  makeRuntimeDir(runtimeDir);
  await lockRuntimeDir(runtimeDir);
  const context = await openContext(log);
  const manager = makeManager(context);
  const jobs = new Jobs({ context, manager, start: startProcess, log });
  const handlers = {
    ...manageHandlers(manager),
    ...jobHandlers({ context, manager, jobs }),
  };
  const server = await serveMethods(manageSocketPath(runtimeDir), MANAGE_METHODS, handlers, log);
  const smapi = await startSmapi({ manager, runtimeDir, daemonRuntimeDir, log });
  log.info({ version: packageVersion(), socket: server.path }, 'the volume manager is ready');
  native.sdNotify('READY=1');
  jobs.start();
  await ended;
  await Promise.all([server.close(), smapi.close(), jobs.close()]);
}

function untilAsked(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve());
  });
}
