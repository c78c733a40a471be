// SPDX-License-Identifier: Apache-2.0
// The volume manager's process. It keeps nothing in memory that ZFS does not know: it may be killed
// at any time, and the next one finishes what was left.

import { lockRuntimeDir } from '../control/lock.ts';
import { makeRuntimeDir } from '../control/runtime_dir.ts';
import { serveMethods } from '../control/server.ts';
import { native } from '../datapath/binding.ts';
import { healthHandlers } from '../health/handlers.ts';
import { Health } from '../health/health.ts';
import { createLogger, type Logger } from '../log.ts';
import { jobHandlers } from '../replication/handlers.ts';
import { HostKey } from '../replication/host_key.ts';
import { Jobs } from '../replication/jobs.ts';
import { startSmapi } from '../smapi/smapi.ts';
import { packageVersion } from '../version.ts';
import { arcHandlers } from '../volume/arc.ts';
import { manageHandlers } from '../volume/manage_handlers.ts';
import { MANAGE_METHODS, manageSocketPath } from '../volume/manage_protocol.ts';
import { makeManager, openContext } from '../volume/manager.ts';
import { Arc } from '../zfs/arc.ts';
import { runCommand } from '../zfs/command.ts';
import { startProcess } from '../zfs/process.ts';

/** What outlives the host's restart and is no pool's: as in the unit. */
const STATE_DIR = '/var/lib/ringdisk-manage';

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
  const hostKey = openHostKey(log);
  const jobs = new Jobs({ context, manager, start: startProcess, hostKey, log });
  const health = new Health({ run: runCommand, log });
  const volumeHandlers = manageHandlers(manager);
  const handlers = {
    ...volumeHandlers,
    ...jobHandlers({ context, manager, jobs }),
    ...healthHandlers(health, volumeHandlers.poolStatus),
    ...arcHandlers(new Arc()),
  };
  const server = await serveMethods(manageSocketPath(runtimeDir), MANAGE_METHODS, handlers, log);
  const smapi = await startSmapi({ manager, runtimeDir, daemonRuntimeDir, log });
  log.info({ version: packageVersion(), socket: server.path }, 'the volume manager is ready');
  native.sdNotify('READY=1');
  jobs.start();
  health.start();
  await ended;
  health.close();
  await Promise.all([server.close(), smapi.close(), jobs.close()]);
  // A command of ZFS that hangs, or a disk that does not answer, is waited for by nobody.
  process.exit();
}

/** Without one that is kept, jobs that are added now are not run by the next manager. */
function openHostKey(log: Logger): HostKey {
  try {
    return HostKey.open(STATE_DIR);
  } catch (error) {
    log.warn({ err: error, folder: STATE_DIR }, 'the key by which jobs are known cannot be kept');
    return new HostKey();
  }
}

function untilAsked(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve());
  });
}
