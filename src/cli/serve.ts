// SPDX-License-Identifier: Apache-2.0
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { CONFIG_FILE } from '../config.ts';
import { ConfigError } from '../errors.ts';
import { platformOption } from './doctor.ts';
import { giveUpPrivileges } from './privileges.ts';
import { collect } from './repeated.ts';
import type { ServeOptions } from './serve_process.ts';

const FAILED_START_MS = 1000;

export function addServe(program: Command): void {
  program
    .command('serve')
    .description('run the daemon: serve the disks that a toolstack gives to its guests')
    .option('--config <file>', `JSON configuration (default: ${CONFIG_FILE}, if it is there)`)
    .option(
      '--backend <kind>',
      'serve this kind of backend; may be repeated (default: vbd3)',
      collect,
    )
    .option('--force', 'serve kinds of disks that another backend of this host serves as well')
    .addOption(platformOption())
    .option(
      '--runtime-dir <dir>',
      'for the control socket and the journals (default: /run/ringdisk)',
    )
    .addHelpText(
      'after',
      '\nSIGTERM and SIGINT stop it. The disks stay connected: their guests wait, and the next\n' +
        'daemon goes on with them, also after a kill -9. With "closeOnStop": true in the\n' +
        'configuration it closes the disks first; a second signal then stops it at once.\n\n' +
        'A kind that somebody else serves is refused: vbd while xen-blkback is loaded, vbd3\n' +
        'beside a tapback. Kind qdisk is served by QEMU, which libxl starts for it: only those\n' +
        "that are marked as ringdisk's are taken. Two backends on one disk destroy its data.\n\n" +
        'Example:\n  ringdisk serve --backend vbd3 --config ringdisk.json',
    )
    .action(async (options: ServeOptions) => {
      await giveUpPrivileges();
      // Loaded when it is run: no other command needs the daemon, or an addon that works.
      const { serve } = await import('./serve_process.ts');
      await serve(options).catch(pauseBeforeNextTry);
    });
}

/** systemd starts a service again at once; one that cannot start would keep the host busy. */
async function pauseBeforeNextTry(error: unknown): Promise<never> {
  const isService = process.env['NOTIFY_SOCKET'] !== undefined;
  if (isService && !(error instanceof ConfigError)) await sleep(FAILED_START_MS);
  throw error;
}
