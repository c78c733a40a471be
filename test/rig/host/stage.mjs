// SPDX-License-Identifier: Apache-2.0
// Puts what dom0 needs on the shared folder: the built project with its production dependencies,
// and the rig's own driver and scenarios.
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join, relative } from 'node:path';

const BUILT = ['dist/ringdisk.cjs', 'build/Release/ringdisk.node'];
const COPIED = ['package.json', 'README.md', 'dist', 'build/Release/ringdisk.node', 'src/host'];

/**
 * @param {string} root the project's folder
 * @returns {string[]} folders of all production dependencies
 */
function productionDependencies(root) {
  const listed = execFileSync('npm', ['ls', '--omit=dev', '--all', '--parseable'], {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  return listed.split('\n').filter((path) => path.startsWith(join(root, 'node_modules')));
}

/**
 * @param {string} root the project's folder; throws when it is not built
 * @param {string} share
 */
export function stage(root, share) {
  const missing = BUILT.filter((path) => !existsSync(join(root, path)));
  if (missing.length > 0) throw new Error(`not built: no ${missing.join(', ')}; run npm run build`);
  const project = join(share, 'ringdisk');
  rmSync(project, { recursive: true, force: true });
  const dependencies = productionDependencies(root).map((path) => relative(root, path));
  for (const path of [...COPIED, ...dependencies]) copy(join(root, path), join(project, path));
  compileContractSuite(root, join(project, 'out/contract'));
  copy(buildPlatformContract(root), join(share, 'platform_contract_tests'));
  compileHostileFrontend(join(root, 'test/rig/hostile'), join(share, 'hostile'));
  for (const part of ['dom0', 'scenarios']) {
    rmSync(join(share, 'rig', part), { recursive: true, force: true });
    copy(join(root, 'test/rig', part), join(share, 'rig', part));
  }
}

/**
 * @param {string} root
 * @param {string} outDir
 */
function compileContractSuite(root, outDir) {
  const compiler = join(root, 'node_modules/typescript/bin/tsc');
  execFileSync('node', [compiler, '-p', 'test/contract', '--outDir', outDir], {
    cwd: root,
    stdio: 'inherit',
  });
}

/**
 * @param {string} root
 * @returns {string} the program: the native platform's contract, which needs nothing of dom0's
 */
function buildPlatformContract(root) {
  const folder = join(root, 'out/native');
  const options = ['-DCMAKE_BUILD_TYPE=Release', '-DRINGDISK_ADDON=OFF', '-DRINGDISK_TESTS=ON'];
  const configure = ['-S', root, '-B', folder, '-G', 'Ninja', ...options];
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

/** @param {string} from @param {string} to */
function copy(from, to) {
  mkdirSync(join(to, '..'), { recursive: true });
  cpSync(from, to, { recursive: true, dereference: true });
}
