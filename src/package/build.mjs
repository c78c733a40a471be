#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// npm run package: packages for hosts without compiler, out of a built checkout.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { buildDeb } from './deb.mjs';
import { HOME } from './layout.mjs';
import { buildRpm } from './rpm.mjs';
import { stageCommand, stageNode, stageXapi } from './stage_tree.mjs';

const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url));
const HELP = `usage: npm run package [-- --output DIR] [--only deb|rpm]
                       [--maintainer 'NAME <ADDRESS>'] [--as-version VERSION]

Builds ringdisk, ringdisk-xapi (XAPI's plugins) and ringdisk-node (the Node that this runs on, for
hosts whose own is older than 20.19) into DIR (default: out/packages).`;

const ABOUT = `ringdisk serves the disks of Xen guests from user space, in place of blktap:
raw and image files, block devices, NVMe, zvols and NBD servers, by io_uring.
Guests notice neither its restarts nor its upgrades.`;

/** @type {(import('./deb.mjs').DebPackage &
 *   { requires: string, stage: (root: string) => unknown })[]} */
const PACKAGES = [
  {
    name: 'ringdisk',
    summary: 'user-space block backend for Xen guests',
    description: ABOUT,
    depends: 'nodejs (>= 20.19) | ringdisk-node',
    requires: '(nodejs >= 20.19 or ringdisk-node)',
    recommends: 'xen-utils-common',
    suggests: 'ringdisk-xapi, qemu-utils, qemu-system-common, nbdkit, zfsutils-linux, linux-perf',
    binaries: [`${HOME}/build/Release/ringdisk.node`],
    stage: (root) => stageCommand(REPOSITORY, root),
  },
  {
    name: 'ringdisk-node',
    summary: 'Node.js for ringdisk, where the host has an older one',
    description:
      `${ABOUT}\n\n` +
      'This package has the Node.js that ringdisk was built with, for ringdisk alone.\n' +
      'Its security updates come with new versions of this package, not from\n' +
      'Debian: prefer the package nodejs where it is 20.19 or newer.',
    depends: '',
    requires: '',
    binaries: [`${HOME}/node`],
    stage: stageNode,
  },
  {
    name: 'ringdisk-xapi',
    summary: 'storage driver of XAPI for volumes of ZFS, by ringdisk',
    description: `${ABOUT}\n\nThis package has the SMAPIv3 plugins, by which it serves XAPI.`,
    depends: 'ringdisk (= $version), python3',
    requires: 'ringdisk = $version',
    stage: (root) => stageXapi(REPOSITORY, root),
  },
];

async function main() {
  const { values } = parseArgs({
    options: {
      output: { type: 'string', default: path.join(REPOSITORY, 'out/packages') },
      only: { type: 'string' },
      'as-version': { type: 'string' },
      maintainer: { type: 'string', default: 'ringdisk maintainers <root@localhost>' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) return console.log(HELP);
  const output = path.resolve(values.output);
  mkdirSync(output, { recursive: true });
  const text = readFileSync(path.join(REPOSITORY, 'package.json'), 'utf8');
  const version = values['as-version'] ?? JSON.parse(text).version;
  const how = { version, date: sourceDate(), maintainer: values.maintainer, output };
  const trees = mkdtempSync(path.join(tmpdir(), 'ringdisk-package-'));
  try {
    for (const { stage, ...what } of PACKAGES) {
      const tree = path.join(trees, what.name);
      mkdirSync(tree);
      await stage(tree);
      if (values.only !== 'deb') console.log(buildRpm(what, tree, how));
      if (values.only !== 'rpm') console.log(buildDeb(what, tree, how));
    }
  } finally {
    rmSync(trees, { recursive: true, force: true });
  }
}

/** Of what is packaged, so that the same source makes the same package. */
function sourceDate() {
  const given = process.env['SOURCE_DATE_EPOCH'];
  if (given) return new Date(Number(given) * 1000);
  const args = ['log', '-1', '--format=%ct'];
  return new Date(Number(execFileSync('git', args, { cwd: REPOSITORY, encoding: 'utf8' })) * 1000);
}

await main();
