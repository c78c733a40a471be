// SPDX-License-Identifier: Apache-2.0
// The trees of the packages, as they will lie on a host, out of a built checkout.
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { textOf } from './command_tree.mjs';
import { bashCompletion, fishCompletion, zshCompletion } from './completions.mjs';
import { CARRIED_NODE, FILES, HOME, unitEntries, XAPI_FILES } from './layout.mjs';
import { manPages } from './man_page.mjs';

/** Of package.json, what the command reads. */
const KEPT_KEYS = ['name', 'version', 'description', 'license', 'type'];
const COMPLETIONS = {
  '/usr/share/bash-completion/completions/ringdisk': bashCompletion,
  '/usr/share/zsh/vendor-completions/_ringdisk': zshCompletion,
  '/usr/share/fish/vendor_completions.d/ringdisk.fish': fishCompletion,
};

/** @param {string} repository built @param {string} root a new folder */
export async function stageCommand(repository, root) {
  const units = unitEntries(readdirSync(path.join(repository, 'src/host')));
  copyAll(repository, root, [...FILES, ...units]);
  const whole = JSON.parse(readFileSync(path.join(repository, 'package.json'), 'utf8'));
  const kept = Object.fromEntries(KEPT_KEYS.map((key) => [key, whole[key]]));
  write(path.join(root, HOME, 'package.json'), `${JSON.stringify(kept, null, 2)}\n`);
  // Names stay, for profiles; what only a debugger needs does not.
  for (const binary of ['ringdisk.node', 'ringdisk-worker']) {
    const place = path.join(root, HOME, 'build/Release', binary);
    execFileSync('strip', ['--strip-debug', '--remove-section=.comment', place]);
  }
  await writeManuals(repository, root, whole.version);
}

/** @param {string} repository @param {string} root @param {import('./layout.mjs').Entry[]} all */
function copyAll(repository, root, all) {
  for (const { from, to, mode } of all) {
    const place = path.join(root, to);
    makeFolderOf(place);
    copyFileSync(path.join(repository, from), place);
    chmodSync(place, mode);
  }
}

/** @param {string} repository @param {string} root @param {string} version */
async function writeManuals(repository, root, version) {
  const { buildProgram } = await import(path.join(repository, 'dist/cli/program.js'));
  const text = textOf(buildProgram());
  for (const page of manPages(text, version)) {
    write(path.join(root, '/usr/share/man/man8', `${page.name}.gz`), compressed(page.text));
  }
  for (const [place, completion] of Object.entries(COMPLETIONS)) {
    write(path.join(root, place), completion(text));
  }
}

/** The Node that runs this. @param {string} root */
export function stageNode(root) {
  const place = path.join(root, CARRIED_NODE);
  makeFolderOf(place);
  copyFileSync(process.execPath, place);
  chmodSync(place, 0o755);
  execFileSync('strip', [place]);
}

/** XAPI's plugins and drop-ins for the units. @param {string} repository @param {string} root */
export async function stageXapi(repository, root) {
  copyAll(repository, root, XAPI_FILES);
  const { installForXapi } = await import(path.join(repository, 'dist/smapi/install.js'));
  installForXapi({ destdir: root, runtimeDir: '/run/ringdisk-manage' });
  // The units themselves are the other package's; an operator's places stay free.
  const units = path.join(root, '/etc/systemd/system');
  for (const name of readdirSync(units)) {
    if (!name.endsWith('.d')) rmSync(path.join(units, name));
  }
  move(units, path.join(root, '/usr/lib/systemd/system'));
  move(path.join(root, '/etc/tmpfiles.d'), path.join(root, '/usr/lib/tmpfiles.d'));
  rmSync(path.join(root, '/etc'), { recursive: true });
}

/** @param {string} text @returns {Buffer} alike each time */
export function compressed(text) {
  return gzipSync(text, { level: 9 });
}

/** @param {string} place @param {string | Buffer} content */
export function write(place, content, mode = 0o644) {
  makeFolderOf(place);
  writeFileSync(place, content);
  chmodSync(place, mode);
}

/** @param {string} from @param {string} to */
function move(from, to) {
  makeFolderOf(to);
  renameSync(from, to);
}

/** @param {string} place */
function makeFolderOf(place) {
  mkdirSync(path.dirname(place), { recursive: true });
}
