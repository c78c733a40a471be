// SPDX-License-Identifier: Apache-2.0
// The plugins' folders as XAPI's storage daemon looks for them: one file that does all, under the
// name of each method, and a link to where the manager listens.
import {
  chmodSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import path from 'node:path';
import { packageRoot } from '../package_root.ts';
import type { PluginKind } from './call.ts';
import { IMPORT_PROGRAM } from './imports.ts';
import { SR_TYPE } from './plugin_calls.ts';
import { DATAPATH_METHODS, VOLUME_METHODS } from './schema.ts';
import { SCHEME } from './uri.ts';

export const PLUGIN_ROOT = '/usr/libexec/xapi-storage-script';
const PROGRAM = 'ringdisk_smapi.py';
const PROGRAM_SOURCE = path.join(packageRoot, 'src/smapi/plugin', PROGRAM);
/** Of ringdisk-import@.service. */
const IMPORT_SOURCE = path.join(packageRoot, 'src/smapi/plugin', IMPORT_PROGRAM);
export const SOCKET_LINK = 'manager.sock';

/** By the volume plugin's folder XAPI names the SRs' type, by the other's a volume's URI. */
export const PLUGINS: readonly { readonly kind: PluginKind; readonly folder: string }[] = [
  { kind: 'datapath', folder: `datapath/${SCHEME}` },
  { kind: 'volume', folder: `volume/org.xen.xapi.storage.${SR_TYPE}` },
];

/** What XAPI must not think that we can: it asks whether the file is there. */
const UNIMPLEMENTED = ['Plugin.ls'];

/** As XAPI's daemon finds them whatever the case, and static-vdis in one spelling only. */
export function methodsOf(kind: PluginKind): string[] {
  const table = kind === 'volume' ? VOLUME_METHODS : DATAPATH_METHODS;
  const methods = Object.keys(table).filter((method) => !UNIMPLEMENTED.includes(method));
  return methods.map((method) => (method === 'Plugin.query' ? 'Plugin.Query' : method));
}

/**
 * Each folder comes as a whole: XAPI's daemon watches the two roots, and looks at a plugin once
 * when it appears. The folders' own roots are never removed: it would not see what comes after.
 */
export function layOutPlugins(root: string, socket: string): void {
  for (const { kind, folder } of PLUGINS) {
    const made = path.join(root, `.${kind}.new`);
    rmSync(made, { recursive: true, force: true });
    mkdirSync(made, { recursive: true });
    const program = path.join(made, PROGRAM);
    copyFileSync(PROGRAM_SOURCE, program);
    chmodSync(program, 0o755);
    symlinkSync(socket, path.join(made, SOCKET_LINK));
    for (const method of methodsOf(kind)) symlinkSync(PROGRAM, path.join(made, method));
    if (kind === 'datapath') copyFileSync(IMPORT_SOURCE, path.join(made, IMPORT_PROGRAM));
    const place = path.join(root, folder);
    mkdirSync(path.dirname(place), { recursive: true });
    takeAway(root, folder);
    renameSync(made, place);
  }
}

/** Whether there was anything. */
export function takeAwayPlugins(root: string): boolean {
  return PLUGINS.map(({ folder }) => takeAway(root, folder)).includes(true);
}

/** Out of its root at once, and then in peace: one that is called while it goes is whole. */
function takeAway(root: string, folder: string): boolean {
  const place = path.join(root, folder);
  if (lstatSync(place, { throwIfNoEntry: false }) === undefined) return false;
  const old = path.join(root, `.${path.basename(place)}.old`);
  rmSync(old, { recursive: true, force: true });
  renameSync(place, old);
  rmSync(old, { recursive: true, force: true });
  return true;
}

/** Whether what is there was laid out by this very version. */
export function isProgramOurs(root: string): boolean {
  const ours = readFileSync(PROGRAM_SOURCE);
  return PLUGINS.every(({ folder }) => {
    const program = path.join(root, folder, PROGRAM);
    return existsSync(program) && readFileSync(program).equals(ours);
  });
}

/** What is missing of the plugins, as sentences; nothing: they are as they should be. */
export function missingPlugins(root: string): string[] {
  return PLUGINS.flatMap(({ kind, folder }) => {
    const place = path.join(root, folder);
    if (!existsSync(place)) return [`there is no ${place}`];
    const missing = methodsOf(kind).filter((method) => !existsSync(path.join(place, method)));
    return missing.length > 0 ? [`${place} has no ${missing.join(', ')}`] : [];
  });
}
