// SPDX-License-Identifier: Apache-2.0
// Puts what dom0 needs on the shared folder: the built project with its production dependencies,
// the Node that it was built with, and, at the paths they have in the repository, the rig's own
// driver and scenarios.
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = resolve(fileURLToPath(new URL('../../..', import.meta.url)));

const BUILT = ['dist/ringdisk.cjs', 'build/Release/ringdisk.node', 'build/Release/ringdisk-worker'];
const COPIED = ['package.json', 'README.md', 'dist', ...BUILT.slice(1), 'src/host'];

/** @returns {string[]} folders of all production dependencies */
function productionDependencies() {
  const listed = execFileSync('npm', ['ls', '--omit=dev', '--all', '--parseable'], {
    cwd: ROOT,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  return listed.split('\n').filter((path) => path.startsWith(join(ROOT, 'node_modules')));
}

/**
 * Throws when the project is not built.
 * @param {string} share
 * @param {string[]} folders of the repository that dom0 needs besides the driver's
 */
export function stage(share, folders) {
  stageProject(share);
  compileHostileFrontend(join(ROOT, 'test/rig/hostile'), join(share, 'hostile'));
  for (const folder of ['test/rig/dom0', ...folders]) {
    rmSync(join(share, folder), { recursive: true, force: true });
    copy(join(ROOT, folder), join(share, folder));
  }
}

/**
 * The built project and Node alone. Throws when the project is not built.
 * @param {string} share
 */
export function stageProject(share) {
  const missing = BUILT.filter((path) => !existsSync(join(ROOT, path)));
  if (missing.length > 0) throw new Error(`not built: no ${missing.join(', ')}; run npm run build`);
  const project = join(share, 'ringdisk');
  rmSync(project, { recursive: true, force: true });
  const dependencies = productionDependencies().map((path) => relative(ROOT, path));
  for (const path of [...COPIED, ...dependencies]) copy(join(ROOT, path), join(project, path));
  copy(process.execPath, join(share, 'node'));
}

/**
 * What the tests need besides: the suites that run in dom0 as they are, and two programs.
 * @param {string} share a staged one
 */
export function stageTests(share) {
  compileContractSuite(join(share, 'ringdisk/out/contract'));
  copy(buildPlatformContract(), join(share, 'platform_contract_tests'));
  compileUnfenced(join(ROOT, 'test/rig/unfenced.c'), join(share, 'unfenced'));
  assembleBootSector(join(ROOT, 'test/rig/bios/boot_sector.S'), join(share, 'boot_sector'));
}

/** @param {string} outDir */
function compileContractSuite(outDir) {
  const compiler = join(ROOT, 'node_modules/typescript/bin/tsc');
  execFileSync('node', [compiler, '-p', 'test/contract', '--outDir', outDir], {
    cwd: ROOT,
    stdio: 'inherit',
  });
}

/** @returns {string} the program: the native platform's contract, which needs nothing of dom0's */
function buildPlatformContract() {
  const folder = join(ROOT, 'out/native');
  const options = ['-DCMAKE_BUILD_TYPE=Release', '-DRINGDISK_ADDON=OFF', '-DRINGDISK_TESTS=ON'];
  const configure = ['-S', ROOT, '-B', folder, '-G', 'Ninja', ...options];
  const program = 'platform_contract_tests';
  /** @type {import('node:child_process').StdioOptions} */
  const stdio = ['ignore', 'ignore', 'inherit'];
  execFileSync('cmake', configure, { stdio });
  execFileSync('cmake', ['--build', folder, '--target', program], { stdio });
  return join(folder, program);
}

/**
 * Static: the guest has no C library to speak of.
 * @param {string} source
 * @param {string} program
 */
function compileHostileFrontend(source, program) {
  const files = readdirSync(source).filter((name) => name.endsWith('.c'));
  const options = ['-O2', '-Wall', '-Wextra', '-Werror', '-static', '-pthread'];
  execFileSync('gcc', [...options, ...files, '-o', program], { cwd: source, stdio: 'inherit' });
}

/** @param {string} source @param {string} program */
function compileUnfenced(source, program) {
  const options = ['-O2', '-Wall', '-Wextra', '-Werror', '-static'];
  execFileSync('gcc', [...options, source, '-o', program], { stdio: 'inherit' });
}

/** @param {string} source @param {string} image 512 bytes, to run at 0x7c00 */
function assembleBootSector(source, image) {
  const object = `${image}.o`;
  execFileSync('gcc', ['-c', source, '-o', object], { stdio: 'inherit' });
  const flat = ['-m', 'elf_x86_64', '-Ttext', '0x7c00', '--oformat', 'binary'];
  execFileSync('ld', [...flat, object, '-o', image], { stdio: 'inherit' });
  rmSync(object);
}

/** @param {string} from @param {string} to */
function copy(from, to) {
  mkdirSync(join(to, '..'), { recursive: true });
  cpSync(from, to, { recursive: true, dereference: true });
}
