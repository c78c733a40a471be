#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// From a fresh clone to a built tree: Debian packages, npm packages, addon, TypeScript.
// Node builtins only: this runs before `npm ci`. An npm lifecycle script may only call it with
// --check or --dist; apt runs from nothing but a command that the user typed.
import { existsSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { installCommands, missingNeeds } from './packages.mjs';
import { step } from './steps.mjs';

const USAGE = `usage: node src/setup/bootstrap.mjs [--check] [--quiet] [--addon | --dist] [--build]
       [--test] [--lint] [--bench] [--package]
  installs what the build needs and this machine lacks
  --check  install nothing: report, with the command that would install it; status 1 if any
  --quiet  say nothing when everything is there
  --addon  only what compiling the addon takes, as npm install does it
  --dist   install no packages but npm's; make dist/, and no addon
  --build  then npm ci, compile the addon and the TypeScript
  --test   also what npm test needs
  --lint   also what npm run check needs
  --bench  also what npm run bench needs
  --package  also what npm run package needs`;

const NODE_MIN = [20, 19];
const ROOT = fileURLToPath(new URL('../..', import.meta.url));

async function main() {
  const options = parseOptions();
  process.chdir(ROOT);
  requireNode();
  if (options.dist) return makeDist();
  const all = ['build', ...['test', 'lint', 'bench', 'package'].filter((group) => options[group])];
  const groups = ['addon', ...(options.addon ? [] : all)];
  if (options.check) return reportMissing(groups);
  await installMissing(groups, options.quiet);
  if (options.build) await build();
}

function parseOptions() {
  const flags = [
    'check',
    'quiet',
    'addon',
    'dist',
    'build',
    'test',
    'lint',
    'bench',
    'package',
    'help',
  ];
  try {
    const definitions = Object.fromEntries(flags.map((flag) => [flag, { type: 'boolean' }]));
    const { values } = parseArgs({ options: definitions });
    if (!values.help) return values;
    console.log(USAGE);
    process.exit(0);
  } catch (error) {
    console.error(`${error.message}\n${USAGE}`);
    process.exit(2);
  }
}

function requireNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > NODE_MIN[0] || (major === NODE_MIN[0] && minor >= NODE_MIN[1])) return;
  fail(`ringdisk needs Node ${NODE_MIN.join('.')} or newer; this is ${process.version}.`);
}

function reportMissing(groups) {
  const missing = missingNeeds(groups);
  if (missing.length === 0) return;
  describe(missing, console.error);
  fail(`Install it with:\n  ${howToInstall(missing)}`);
}

async function installMissing(groups, quiet) {
  const missing = missingNeeds(groups);
  if (missing.length === 0) {
    if (!quiet) console.log('Every package that ringdisk needs is installed.');
    return;
  }
  describe(missing, console.log);
  const commands = installCommands(missing);
  if (commands.length === 0) fail(howToInstall(missing));
  for (const [command, ...args] of commands) {
    const name = args.includes('install') ? 'apt-get install' : 'apt-get update';
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
    // sudo asks for its password on the terminal, whatever our pipes are; apt itself asks nothing.
    const result = await step(name, command, args, { env });
    if (!result.ok) fail(`Run it yourself, then start again:\n  ${howToInstall(missing)}`);
  }
  const still = missingNeeds(groups);
  if (still.length > 0) fail(`Still missing: ${still.map((need) => need.why).join(', ')}.`);
}

function describe(missing, print) {
  for (const { why, packages } of missing) print(`missing: ${why} (${packages.join(' ')})`);
}

function howToInstall(missing) {
  const commands = installCommands(missing).map((command) => command.join(' '));
  if (commands.length > 0) return commands.join(' && ');
  const names = missing.map((need) => need.why).join(', ');
  return `This is not Debian or one of its children: install ${names} with your package manager.`;
}

async function build() {
  await installNpmPackages();
  const local = createRequire(path.join(ROOT, 'package.json'));
  // ninja knows best what is up to date.
  const cmakeJs = path.join(path.dirname(local.resolve('cmake-js/package.json')), 'bin/cmake-js');
  await must('native addon', process.execPath, [cmakeJs, 'compile', '-B', 'Release']);
  await makeDist();
}

/** What a package holds: all that is made here and not where it is installed. */
async function makeDist() {
  await installNpmPackages();
  const tsc = createRequire(path.join(ROOT, 'package.json')).resolve('typescript/bin/tsc');
  await must('TypeScript', process.execPath, [tsc, '-p', 'tsconfig.json']);
  await must('one file of it', process.execPath, ['src/setup/bundle.mjs']);
}

async function installNpmPackages() {
  if (npmPackagesAreOld()) {
    // Without the scripts: nothing of ours needs them, and a package's own must not run here.
    const args = ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
    await must('npm packages', 'npm', args);
  }
}

function npmPackagesAreOld() {
  const installed = 'node_modules/.package-lock.json';
  if (!existsSync(installed)) return true;
  return statSync(installed).mtimeMs < statSync('package-lock.json').mtimeMs;
}

async function must(...stepArguments) {
  const result = await step(...stepArguments);
  if (!result.ok) process.exit(1);
}

function fail(message) {
  console.error(message);
  process.exit(1);
}

await main();
