// SPDX-License-Identifier: Apache-2.0
// What a host needs for XAPI beyond ringdisk itself, and takes back again: the plugins' folders,
// the units, and two drop-ins for them, so that nobody's configuration is touched.
import { copyFileSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { packageRoot } from '../package_root.ts';
import { layOutPlugins, missingPlugins, PLUGIN_ROOT, takeAwayPlugins } from './layout.ts';
import { smapiSocketPath } from './smapi_socket.ts';

const UNIT_FOLDER = '/etc/systemd/system';
const TMPFILES_FOLDER = '/etc/tmpfiles.d';
/** Of the daemon and the manager; those that are there already stay as they are. */
const UNITS = [
  ...['ringdisk.service', 'ringdisk-network.service', 'ringdisk-manage.service'],
  ...['ringdisk-import.socket', 'ringdisk-import@.service'],
];
const TMPFILES = 'ringdisk-xapi.conf';

/** XAPI's disks are of kind qdisk, and all others have their own backends on its hosts. */
const DROP_INS: Readonly<Record<string, string>> = {
  'ringdisk.service.d/xapi.conf': `[Unit]
# HA's disks are attached before XAPI runs.
Before=attach-static-vdis.service xapi-storage-script.service

[Service]
ExecStart=
ExecStart=ringdisk serve --backend qdisk
# Where a guest's disk goes that XAPI moves.
BindPaths=-/run/nbdproxy
`,
  'ringdisk-manage.service.d/xapi.conf': `[Unit]
Before=attach-static-vdis.service xapi-storage-script.service
After=ringdisk.service ringdisk-import.socket
`,
};

export interface InstallPlaces {
  /** In front of every path: "" is this host. */
  readonly destdir: string;
  /** The manager's. */
  readonly runtimeDir: string;
}

/** What has been written, for the operator. */
export function installForXapi({ destdir, runtimeDir }: InstallPlaces): string[] {
  layOutPlugins(path.join(destdir, PLUGIN_ROOT), smapiSocketPath(runtimeDir));
  const units = UNITS.flatMap((name) => {
    const place = path.join(destdir, UNIT_FOLDER, name);
    const source = path.join(packageRoot, 'src/host', name);
    if (existsSync(place) || !existsSync(source)) return [];
    makeFolderOf(place);
    copyFileSync(source, place);
    return [place];
  });
  const texts = Object.entries(dropInsAt(destdir));
  for (const [place, text] of texts) {
    makeFolderOf(place);
    writeFileSync(place, text);
  }
  return [path.join(destdir, PLUGIN_ROOT), ...units, ...texts.map(([place]) => place)];
}

/** Units and pools stay: others may use them. */
export function removeFromXapi({ destdir }: Pick<InstallPlaces, 'destdir'>): string[] {
  const root = path.join(destdir, PLUGIN_ROOT);
  const plugins = takeAwayPlugins(root) ? [root] : [];
  const texts = Object.keys(dropInsAt(destdir)).filter((place) => existsSync(place));
  for (const place of texts) rmSync(place);
  return [...plugins, ...texts];
}

/** Whether XAPI's storage daemon is on this host at all. */
export function hasXapi(destdir = ''): boolean {
  return existsSync(path.join(destdir, PLUGIN_ROOT));
}

/** As sentences; nothing: all is there. */
export function missingForXapi(destdir = ''): string[] {
  const texts = Object.keys(dropInsAt(destdir)).filter((place) => !existsSync(place));
  return [
    ...missingPlugins(path.join(destdir, PLUGIN_ROOT)),
    ...texts.map((place) => `there is no ${place}`),
  ];
}

function dropInsAt(destdir: string): Record<string, string> {
  const units = Object.entries(DROP_INS).map(
    ([name, text]) => [path.join(destdir, UNIT_FOLDER, name), text] as const,
  );
  const folder = '# Sockets of XAPI; the daemon sees the folder if it is there when it starts.\n';
  const tmpfiles = path.join(destdir, TMPFILES_FOLDER, TMPFILES);
  const line = 'd /run/nbdproxy 0755 root root -\nd /run/nbdproxy/export 0755 root root -\n';
  return Object.fromEntries([...units, [tmpfiles, folder + line]]);
}

function makeFolderOf(place: string): void {
  mkdirSync(path.dirname(place), { recursive: true });
}
