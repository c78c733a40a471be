// SPDX-License-Identifier: Apache-2.0
// The one table of what a machine needs besides Node, and how Debian and its children get it.
// Node builtins only: this runs before `npm ci`.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';

const runs = (command, ...args) => spawnSync(command, args, { stdio: 'ignore' }).status === 0;
const cxxFinds = (header) =>
  spawnSync('g++', ['-E', '-x', 'c++', '-'], { input: `#include <${header}>\n` }).status === 0;

/**
 * `group`: addon (npm install), build (npm run build), test (npm test), lint (npm run check), bench
 * (npm run bench), package (npm run package).
 */
const NEEDS = [
  { group: 'addon', why: 'C++20 compiler', packages: ['g++'], ok: () => runs('g++', '--version') },
  { group: 'addon', why: 'make', packages: ['make'], ok: () => runs('make', '--version') },
  {
    group: 'addon',
    why: 'Python 3, for node-gyp',
    packages: ['python3-minimal'],
    ok: () => runs('python3', '--version'),
  },
  { group: 'build', why: 'CMake', packages: ['cmake'], ok: () => runs('cmake', '--version') },
  { group: 'build', why: 'Ninja', packages: ['ninja-build'], ok: () => runs('ninja', '--version') },
  {
    group: 'addon',
    why: 'pkg-config',
    packages: ['pkg-config'],
    ok: () => runs('pkg-config', '--version'),
  },
  {
    group: 'addon',
    why: 'liburing 2.3 or newer',
    packages: ['liburing-dev'],
    ok: () => runs('pkg-config', '--atleast-version=2.3', 'liburing'),
  },
  {
    group: 'addon',
    why: 'sys/sdt.h, for the probes',
    packages: ['systemtap-sdt-dev'],
    ok: () => cxxFinds('sys/sdt.h'),
  },
  {
    group: 'test',
    why: 'doctest, for the native tests',
    packages: ['doctest-dev'],
    ok: () => cxxFinds('doctest/doctest.h'),
  },
  {
    group: 'test',
    why: 'media that can be made to hang',
    packages: ['bindfs', 'e2fsprogs', 'xfsprogs', 'util-linux'],
    ok: () => runs('bindfs', '--version') && runs('mkfs.xfs', '-V') && runs('mkfs.ext4', '-V'),
  },
  {
    group: 'test',
    why: 'clients of NBD',
    packages: ['libnbd-bin', 'python3-libnbd', 'qemu-utils'],
    ok: () =>
      runs('nbdinfo', '--version') &&
      runs('qemu-img', '--version') &&
      runs('/usr/bin/python3', '-c', 'import nbd'),
  },
  {
    group: 'test',
    why: 'certificates, and other NBD servers',
    packages: ['openssl', 'nbdkit', 'qemu-system-common'],
    ok: () =>
      runs('openssl', 'version') &&
      runs('nbdkit', '--version') &&
      runs('qemu-storage-daemon', '--version'),
  },
  {
    group: 'package',
    why: 'tools that make packages',
    packages: ['dpkg-dev', 'lintian', 'rpm', 'rpmlint', 'binutils'],
    ok: () =>
      ['dpkg-shlibdeps', 'lintian', 'rpmbuild', 'rpmlint'].every((tool) => runs(tool, '--version')),
  },
  { group: 'test', why: 'fio', packages: ['fio'], ok: () => runs('fio', '--version') },
  { group: 'bench', why: 'fio', packages: ['fio'], ok: () => runs('fio', '--version') },
  {
    group: 'bench',
    why: 'other NBD servers',
    packages: ['nbdkit', 'qemu-system-common'],
    ok: () => runs('nbdkit', '--version') && runs('qemu-storage-daemon', '--version'),
  },
  {
    group: 'bench',
    why: 'valgrind, for instructions per I/O',
    packages: ['valgrind'],
    ok: () => runs('valgrind', '--version'),
  },
  {
    group: 'lint',
    why: 'clang-format 19',
    packages: ['clang-format-19'],
    ok: () => runs('clang-format-19', '--version'),
  },
  {
    group: 'lint',
    why: 'clang-tidy 19',
    packages: ['clang-tidy-19'],
    ok: () => runs('clang-tidy-19', '--version'),
  },
];

/** What of the given groups this machine lacks. */
export function missingNeeds(groups) {
  return NEEDS.filter((need) => groups.includes(need.group) && !need.ok());
}

/** The commands that install `needs` here, as argument lists; empty where apt is not at home. */
export function installCommands(needs) {
  const packages = needs.flatMap((need) => need.packages);
  if (!isDebianLike()) return [];
  const sudo = process.getuid() === 0 ? [] : ['sudo'];
  return [
    [...sudo, 'apt-get', 'update', '-qq'],
    [...sudo, 'apt-get', 'install', '-y', '-qq', '--no-install-recommends', ...packages],
  ];
}

function isDebianLike() {
  const file = '/etc/os-release';
  const text = existsSync(file) ? readFileSync(file, 'utf8') : '';
  return /^ID(_LIKE)?=.*(debian|ubuntu)/m.test(text);
}
