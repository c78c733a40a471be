// SPDX-License-Identifier: Apache-2.0
// The npm package as a program that depends on it finds it: its files, its types, its functions.
// The addon is the one that was built here: compiling it takes minutes.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../support/temporary_folder.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const TSC = path.join(ROOT, 'node_modules/typescript/bin/tsc');

const CONSUMER = `
import {
  ControlClient, controlSocketPath, createLogger, type Daemon, DaemonUnreachableError,
  loadConfig, openLoopbackPlatform, openXenPlatform, type Platform, startDaemon,
} from 'ringdisk';

const runtimeDir = process.argv[2] ?? '';
const config = await loadConfig(undefined, { runtimeDir, reactors: 1 });
const platform: Platform = await openLoopbackPlatform(config);
const daemon: Daemon = await startDaemon(config, platform, createLogger({ level: 'silent' }));
const disks: number = daemon.vbds().length;
await daemon.stop();
await platform.close();
const failure: unknown = await ControlClient.connect(controlSocketPath(runtimeDir)).catch((e) => e);
console.log(disks, failure instanceof DaemonUnreachableError, typeof openXenPlatform);
`;

let folder: string;
let files: string[];
beforeAll(() => {
  folder = temporaryFolder();
  const args = ['pack', '--ignore-scripts', '--json', '--pack-destination', folder];
  const [packed] = JSON.parse(execFileSync('npm', args, { cwd: ROOT, encoding: 'utf8' }));
  files = packed.files.map((file: { path: string }) => file.path);
  const modules = path.join(folder, 'node_modules');
  const installed = path.join(modules, 'ringdisk');
  mkdirSync(installed, { recursive: true });
  const tar = ['-xzf', path.join(folder, packed.filename), '-C', installed];
  execFileSync('tar', [...tar, '--strip-components=1']);
  symlinkSync(path.join(ROOT, 'node_modules'), path.join(installed, 'node_modules'));
  symlinkSync(path.join(ROOT, 'build'), path.join(installed, 'build'));
  writeFileSync(path.join(folder, 'package.json'), '{"type":"module"}');
  writeFileSync(path.join(folder, 'consumer.ts'), CONSUMER);
});

describe('the npm package', () => {
  it('has every file that its own texts name', () => {
    for (const text of ['README.md', 'SECURITY.md', 'src/host/ringdisk.service']) {
      const named = readFileSync(path.join(ROOT, text), 'utf8').matchAll(
        /\b(?:src\/host|bench)\/[\w./-]*\.(?:service|conf|json|bt|svg|mjs)\b|[A-Z]+\.md\b/g,
      );
      for (const [name] of named) {
        // Of the source tree, and said to be so.
        if (name === 'CONTRIBUTING.md' || /^bench\/.*\.mjs$/.test(name)) continue;
        expect(files, `${text} names ${name}`).toContain(name);
      }
    }
    for (const name of ['dist/ringdisk.cjs', 'dist/index.d.ts', 'src/host/block-ringdisk']) {
      expect(files).toContain(name);
    }
  });

  it('is built before it is packed, and needs no CMake where it is installed', () => {
    const { scripts } = JSON.parse(readFileSync(path.join(ROOT, 'package.json'), 'utf8'));
    expect(scripts.prepack).toContain('bootstrap.mjs --dist');
    expect(scripts.install).toContain('--check --addon');
    const check = ['src/setup/bootstrap.mjs', '--check', '--addon'];
    // Where there is not a single program, all that is needed is told, and what is not, is not.
    const env = { PATH: '/nowhere' };
    const run = () => execFileSync(process.execPath, check, { cwd: ROOT, env, stdio: 'pipe' });
    expect(run).toThrow(/C\+\+20 compiler/);
    expect(run).not.toThrow(/CMake|Ninja/);
  });

  it('has types that a strict consumer can use, and functions that do what they say', () => {
    const options = ['--strict', '--module', 'nodenext', '--target', 'es2023', '--types', 'node'];
    const roots = [
      '--typeRoots',
      path.join(ROOT, 'node_modules/@types'),
      '--skipLibCheck',
      'false',
    ];
    execFileSync(process.execPath, [TSC, ...options, ...roots, 'consumer.ts'], {
      cwd: folder,
      stdio: 'pipe',
    });
    const runtimeDir = path.join(folder, 'run');
    mkdirSync(runtimeDir);
    const args = ['consumer.js', runtimeDir];
    const printed = execFileSync(process.execPath, args, { cwd: folder, encoding: 'utf8' });
    expect(printed).toBe('0 true function\n');
  }, 120_000);
});
