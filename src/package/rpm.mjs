// SPDX-License-Identifier: Apache-2.0
// RPM packages of staged trees, by rpmbuild.
import { execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { CONFIGURATION } from './layout.mjs';
import { write } from './stage_tree.mjs';

const RPM = fileURLToPath(new URL('rpm/', import.meta.url));
/** Where Debian's programs look. */
const RENAMED = { '/usr/share/zsh/vendor-completions': '/usr/share/zsh/site-functions' };

/**
 * @param {import('./deb.mjs').DebPackage & { requires: string }} what
 * @param {string} tree
 * @param {{ version: string, date: Date, maintainer: string, output: string }} how
 * @returns {string} the package's path
 */
export function buildRpm(what, tree, how) {
  const folder = mkdtempSync(path.join(tmpdir(), 'ringdisk-rpm-'));
  try {
    const root = path.join(folder, 'tree');
    cpSync(tree, root, { recursive: true, verbatimSymlinks: true });
    for (const [from, to] of Object.entries(RENAMED)) {
      if (existsSync(path.join(root, from))) renameSync(path.join(root, from), path.join(root, to));
    }
    const spec = path.join(folder, `${what.name}.spec`);
    write(spec, specText(what, root, how));
    execFileSync('rpmbuild', ['-bb', '--define', `_topdir ${folder}`, spec], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, SOURCE_DATE_EPOCH: String(how.date.getTime() / 1000) },
    });
    const built = path.join(folder, 'RPMS', architectureOf(what));
    const [name] = readdirSync(built);
    cpSync(path.join(built, name), path.join(how.output, name));
    return path.join(how.output, name);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** @param {import('./deb.mjs').DebPackage} what */
function architectureOf({ binaries = [] }) {
  return binaries.length > 0 ? 'x86_64' : 'noarch';
}

/** @param {string} root of the files */
function specText(what, root, { version, maintainer, date }) {
  const [scriptlets] = [path.join(RPM, `${what.name}.scriptlets`)].filter(existsSync);
  const day = date.toUTCString().replace(/^(\w+), (\d+) (\w+) (\d+).*/, '$1 $3 $2 $4');
  return `%global debug_package %{nil}
%global __strip /bin/true
%global _build_id_links none
%global __brp_mangle_shebangs %{nil}
%global use_source_date_epoch_as_buildtime 1
Name: ${what.name}
Version: ${version.replaceAll('-', '~')}
Release: 1
Summary: ${what.summary}
License: Apache-2.0
Packager: ${maintainer}
Group: System/Kernel
BuildArch: ${architectureOf(what)}
${what.requires ? `Requires: ${what.requires.replaceAll('$version', version)}` : ''}

%description
${what.description}

%install
cp -a '${root}/.' '%{buildroot}/'

${scriptlets ? readFileSync(scriptlets, 'utf8') : ''}
%files
${fileList(root).join('\n')}

%changelog
* ${day} ${maintainer} - ${version}-1
- See CHANGELOG.md of the project.
`;
}

/** @param {string} root @returns {string[]} */
function fileList(root) {
  return readdirSync(root, { withFileTypes: true, recursive: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => `/${path.relative(root, path.join(entry.parentPath, entry.name))}`)
    .sort()
    .map((file) => (CONFIGURATION.includes(file) ? `%config(noreplace) ${file}` : file));
}
