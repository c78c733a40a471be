// SPDX-License-Identifier: Apache-2.0
// The command tree.
import { Command, type OutputConfiguration } from 'commander';
import { packageVersion } from '../version.ts';
import { addBitmap } from './bitmap.ts';
import { addDemo } from './demo.ts';
import { addDisconnect } from './disconnect.ts';
import { addDoctor } from './doctor.ts';
import { addExport } from './export.ts';
import { addFill } from './fill.ts';
import { addFlamegraph } from './flamegraph.ts';
import { addImageHelper } from './image_helper.ts';
import { addLimit } from './limit.ts';
import { addList } from './list.ts';
import { addManage } from './manage.ts';
import { addMigrateStorage } from './migrate_storage.ts';
import { addMirror } from './mirror.ts';
import { addNbdConnect, addNbdListen } from './nbd_tls.ts';
import { addPool } from './pool.ts';
import { addResize } from './resize.ts';
import { addRetry } from './retry.ts';
import { addServe } from './serve.ts';
import { addShow } from './show.ts';
import { addStats } from './stats.ts';
import { addUpgrade } from './upgrade.ts';
import { addVolume } from './volume.ts';
import { addXapi } from './xapi.ts';

const EPILOGUE = `
Exit status: 0 ok, 1 error, 2 wrong usage, 3 the daemon cannot be reached, 78 the configuration
cannot be used, 130 interrupted.

Example:
  ringdisk doctor && ringdisk serve`;

/** Throws CommanderError instead of exiting. */
export function buildProgram(output: OutputConfiguration = {}): Command {
  const program = new Command('ringdisk')
    .description('serves the disks of Xen guests from user space')
    .version(packageVersion())
    .showHelpAfterError('(--help tells more)')
    .addHelpText('after', EPILOGUE)
    .configureOutput(output)
    .exitOverride();
  const adders = [
    addServe,
    addList,
    addShow,
    addStats,
    addFlamegraph,
    addResize,
    addLimit,
    addDisconnect,
    addRetry,
    addExport,
    addBitmap,
    addNbdListen,
    addNbdConnect,
    addFill,
    addMirror,
    addMigrateStorage,
    addXapi,
    addUpgrade,
    addManage,
    addPool,
    addVolume,
    addDoctor,
    addDemo,
    addImageHelper,
  ];
  for (const add of adders) add(program);
  return program;
}
