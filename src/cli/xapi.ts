// SPDX-License-Identifier: Apache-2.0
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { Command } from 'commander';
import { installForXapi, removeFromXapi } from '../smapi/install.ts';
import { MANAGE_DIR } from '../volume/manage_protocol.ts';
import { printResult } from './output.ts';

interface XapiOptions {
  destdir: string;
  runtimeDir: string;
  json?: boolean;
}

const SERVICES = ['ringdisk.service', 'ringdisk-manage.service', 'ringdisk-import.socket'];
const INSTALL_HELP = `
XAPI reads the types of its SRs when it starts: run xe-toolstack-restart after this, once. Guests do
not notice. Then 'xe sr-create type=ringdisk device-config:device=/dev/sdb ...' makes a pool.

With --destdir nothing is started, and all is written below that folder.

Example:
  ringdisk xapi install && xe-toolstack-restart`;
const REMOVE_HELP = `
Forget the SRs first (xe pbd-unplug, xe sr-forget): their pools stay as they are, and so do
ringdisk's units.

Example:
  ringdisk xapi remove && xe-toolstack-restart`;

export function addXapi(program: Command): void {
  const command = program
    .command('xapi')
    .description("be a storage driver of XAPI's (SMAPIv3): SRs are ZFS pools");
  const add = (name: string, description: string, help: string) =>
    command
      .command(name)
      .description(description)
      .option('--destdir <dir>', 'write below this folder, and start nothing', '')
      .option('--runtime-dir <dir>', "the volume manager's runtime directory", MANAGE_DIR)
      .option('--json', 'print JSON, in a versioned envelope')
      .addHelpText('after', help);
  add('install', 'put the plugins and units where XAPI and systemd look', INSTALL_HELP).action(
    install,
  );
  add('remove', 'take the plugins away again', REMOVE_HELP).action(remove);
}

async function install(options: XapiOptions): Promise<void> {
  const written = installForXapi(options);
  if (options.destdir === '') {
    await systemd('systemd-tmpfiles', '--create');
    await systemd('systemctl', 'daemon-reload');
    await systemd('systemctl', 'enable', ...SERVICES);
    // The daemon's guests wait for a moment, as in any restart of it.
    await systemd('systemctl', 'restart', ...SERVICES);
  }
  const next = 'XAPI knows of it after xe-toolstack-restart.';
  printResult('xapi install', options, { written }, () => [...written, next].join('\n'));
}

async function remove(options: XapiOptions): Promise<void> {
  const removed = removeFromXapi(options);
  if (options.destdir === '' && removed.length > 0) await systemd('systemctl', 'daemon-reload');
  const none = 'There was nothing of it.';
  printResult('xapi remove', options, { removed }, () => removed.join('\n') || none);
}

async function systemd(program: string, ...args: string[]): Promise<void> {
  await promisify(execFile)(program, args);
}
