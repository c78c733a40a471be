// SPDX-License-Identifier: Apache-2.0
// What a package puts where. The command lies in one folder, as in a checkout, since it finds its
// parts from package.json on; the host's own folders get what the host looks for there.

/** Everything of ours that is run. */
export const HOME = '/usr/lib/ringdisk';
/** Of the package ringdisk-node, for hosts whose own Node is too old. */
export const CARRIED_NODE = `${HOME}/node`;

const UNITS = '/usr/lib/systemd/system';
/** libxl's. block-tap, which it runs for backendtype=tap, becomes a link when it is installed. */
const SCRIPTS = '/etc/xen/scripts';

const PROGRAM = 0o755;
const TEXT = 0o644;

/** @typedef {{ from: string, to: string, mode: number }} Entry of the repository; on the host */

/** @type {readonly Entry[]} */
export const FILES = [
  ...['bundle.cjs', 'flamegraph_page.js', 'ringdisk.cjs'].map((name) =>
    inHome(`dist/${name}`, TEXT),
  ),
  inHome('build/Release/ringdisk.node', TEXT),
  inHome('build/Release/ringdisk-worker', PROGRAM),
  // By which the addon is found; all other packages are in the bundle.
  ...['index.js', 'node-gyp-build.js', 'package.json', 'LICENSE'].map((name) =>
    inHome(`node_modules/node-gyp-build/${name}`, TEXT),
  ),
  inHome('src/setup/make_cache.cjs', TEXT),
  inHome('src/host/block-ringdisk', PROGRAM),
  ...['slow.bt', 'stages.bt'].map((name) => inHome(`src/host/bpftrace/${name}`, PROGRAM)),
  { from: 'src/package/ringdisk.sh', to: '/usr/bin/ringdisk', mode: PROGRAM },
  { from: 'src/host/block-ringdisk', to: `${SCRIPTS}/block-ringdisk`, mode: PROGRAM },
  { from: 'src/host/ringdisk.sysctl.conf', to: '/usr/lib/sysctl.d/60-ringdisk.conf', mode: TEXT },
  {
    from: 'src/host/ringdisk.sysusers.conf',
    to: '/usr/lib/sysusers.d/ringdisk.conf',
    mode: TEXT,
  },
  {
    from: 'src/host/ringdisk.tmpfiles.conf',
    to: '/usr/lib/tmpfiles.d/ringdisk.conf',
    mode: TEXT,
  },
  {
    from: 'src/host/ringdisk-nbd.tmpfiles.conf',
    to: '/usr/lib/tmpfiles.d/ringdisk-nbd.conf',
    mode: TEXT,
  },
  { from: 'src/host/config.json', to: '/etc/ringdisk/config.json', mode: TEXT },
];

/** Of the package for XAPI. */
export const XAPI_FILES = ['ringdisk_smapi.py', 'ringdisk_import.py'].map((name) =>
  inHome(`src/smapi/plugin/${name}`, PROGRAM),
);

/** What an operator may have changed, and a package asks about. */
export const CONFIGURATION = ['/etc/ringdisk/config.json', `${SCRIPTS}/block-ringdisk`];

/** Units, all of which lie in src/host. @param {string[]} names */
export function unitEntries(names) {
  return names
    .filter((name) => /\.(service|socket)$/.test(name))
    .map((name) => ({ from: `src/host/${name}`, to: `${UNITS}/${name}`, mode: TEXT }));
}

/** @param {string} path @param {number} mode @returns {Entry} */
function inHome(path, mode) {
  return { from: path, to: `${HOME}/${path}`, mode };
}
