// SPDX-License-Identifier: Apache-2.0
// Debian packages of staged trees.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { CONFIGURATION } from './layout.mjs';
import { compressed, write } from './stage_tree.mjs';

const DEBIAN = fileURLToPath(new URL('debian/', import.meta.url));
/** What dpkg-shlibdeps wants to find. */
const SOURCE = 'Source: ringdisk\n\nPackage: ringdisk\nArchitecture: any\n';
const SCRIPTS = ['preinst', 'postinst', 'prerm', 'postrm'];

/**
 * @typedef {object} DebPackage
 * @property {string} name
 * @property {string} summary
 * @property {string} description   paragraphs, each a line
 * @property {string} depends       besides the libraries of its binaries
 * @property {string} [recommends]
 * @property {string} [suggests]
 * @property {string[]} [binaries]  of its tree, that are linked dynamically
 */

/**
 * @param {DebPackage} what
 * @param {string} tree    of its files; gets its control files too
 * @param {{ version: string, date: Date, maintainer: string, output: string }} how
 * @returns {string} the package's path
 */
export function buildDeb(what, tree, how) {
  const { name } = what;
  writeDocuments(name, tree, how);
  const control = path.join(tree, 'DEBIAN');
  mkdirSync(control, { recursive: true });
  for (const script of SCRIPTS) {
    const source = path.join(DEBIAN, `${name}.${script}`);
    if (existsSync(source)) write(path.join(control, script), readFileSync(source), 0o755);
  }
  const triggers = path.join(DEBIAN, `${name}.triggers`);
  if (existsSync(triggers)) write(path.join(control, 'triggers'), readFileSync(triggers));
  const configuration = CONFIGURATION.filter((file) => existsSync(path.join(tree, file)));
  if (configuration.length > 0) {
    write(path.join(control, 'conffiles'), `${configuration.join('\n')}\n`);
  }
  write(path.join(control, 'md5sums'), sums(tree));
  write(path.join(control, 'control'), controlText(what, tree, how));
  const file = path.join(how.output, `${name}_${how.version}_${architectureOf(what)}.deb`);
  execFileSync('dpkg-deb', ['--root-owner-group', '-Zxz', '--build', tree, file], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return file;
}

function writeDocuments(name, tree, { version, date, maintainer }) {
  const documents = path.join(tree, 'usr/share/doc', name);
  mkdirSync(documents, { recursive: true });
  cpSync(path.join(DEBIAN, 'copyright'), path.join(documents, 'copyright'));
  const when = date.toUTCString().replace('GMT', '+0000');
  const text =
    `ringdisk (${version}) unstable; urgency=medium\n\n` +
    `  * See CHANGELOG.md of the project.\n\n -- ${maintainer}  ${when}\n`;
  write(path.join(documents, 'changelog.gz'), compressed(text));
  const overrides = path.join(DEBIAN, `${name}.lintian-overrides`);
  if (existsSync(overrides)) {
    write(path.join(tree, 'usr/share/lintian/overrides', name), readFileSync(overrides));
  }
}

/** @param {DebPackage} what */
function architectureOf({ binaries = [] }) {
  return binaries.length > 0 ? 'amd64' : 'all';
}

/** @param {DebPackage} what @param {string} tree */
function controlText(what, tree, { version, maintainer }) {
  const architecture = architectureOf(what);
  const libraries = neededLibraries((what.binaries ?? []).map((one) => path.join(tree, one)));
  const depends = [...libraries, what.depends.replaceAll('$version', version)].filter(Boolean);
  const lines = [
    `Package: ${what.name}`,
    `Version: ${version}`,
    'Section: admin',
    'Priority: optional',
    `Architecture: ${architecture}`,
    `Maintainer: ${maintainer}`,
    `Installed-Size: ${kibibytes(tree)}`,
    `Depends: ${depends.join(', ')}`,
    ...(what.recommends ? [`Recommends: ${what.recommends}`] : []),
    ...(what.suggests ? [`Suggests: ${what.suggests}`] : []),
    `Description: ${what.summary}`,
    ...what.description.split('\n').map((line) => ` ${line === '' ? '.' : line}`),
  ];
  return `${lines.join('\n')}\n`;
}

/** By Debian's own tool, which wants a source package around. @param {string[]} binaries */
function neededLibraries(binaries) {
  if (binaries.length === 0) return [];
  const folder = execFileSync('mktemp', ['-d'], { encoding: 'utf8' }).trim();
  write(path.join(folder, 'debian/control'), SOURCE);
  const args = ['-O', '--ignore-missing-info', ...binaries];
  const text = execFileSync('dpkg-shlibdeps', args, {
    cwd: folder,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  execFileSync('rm', ['-r', folder]);
  return [text.trim().replace(/^shlibs:Depends=/, '')];
}

/** @param {string} tree @returns {string} as dpkg keeps them */
function sums(tree) {
  const lines = filesOf(tree)
    .filter((file) => !file.startsWith('DEBIAN/') && !CONFIGURATION.includes(`/${file}`))
    .map((file) => {
      const sum = createHash('md5')
        .update(readFileSync(path.join(tree, file)))
        .digest('hex');
      return `${sum}  ${file}`;
    });
  return `${lines.join('\n')}\n`;
}

/** Regular files, relative. @param {string} tree @returns {string[]} */
function filesOf(tree) {
  return readdirSync(tree, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(tree, path.join(entry.parentPath, entry.name)))
    .sort();
}

/** @param {string} tree */
function kibibytes(tree) {
  const text = execFileSync('du', ['-sk', '--apparent-size', tree], { encoding: 'utf8' });
  return Number.parseInt(text, 10);
}
