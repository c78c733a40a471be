// SPDX-License-Identifier: Apache-2.0
// One file of everything the command needs, and what V8 makes of it, since a daemon's guests wait
// while it starts: finding, linking and compiling a hundred modules takes longer than all of a
// take-over. See launch.cjs.
import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';

const SETUP = fileURLToPath(new URL('.', import.meta.url));
const DIST = path.resolve(SETUP, '../../dist');
const WARM_UP_MS = 10_000;

async function main() {
  const cache = path.join(DIST, 'bundle.cache');
  rmSync(cache, { force: true });
  const id = await writeBundle();
  await writeFlamegraphPage();
  const command = path.join(DIST, 'ringdisk.cjs');
  copyFileSync(path.join(SETUP, 'launch.cjs'), command);
  chmodSync(command, 0o755);
  // That it works at all.
  execFileSync(process.execPath, [command, '--version']);
  await makeCache(command, cache, id);
}

/** Returns the hash that its last line says. */
async function writeBundle() {
  const bundle = await rolldown({ input: path.join(DIST, 'cli/main.js'), platform: 'node' });
  // CommonJS: Node's loader for it starts faster than the one for ES modules.
  const { output } = await bundle.generate({ format: 'cjs', codeSplitting: false });
  const code = output[0].code.replace(/^#!.*\n/, '');
  const id = createHash('sha256').update(code).digest('hex');
  writeFileSync(path.join(DIST, 'bundle.cjs'), `${code}\n// ${id}\n`);
  return id;
}

/** What the command puts into a flame graph's page; browsers know no modules in a file. */
async function writeFlamegraphPage() {
  const input = path.join(SETUP, 'flamegraph_page.mjs');
  // The page has styles of its own.
  const bundle = await rolldown({ input, moduleTypes: { '.css': 'empty' } });
  await bundle.write({ format: 'iife', minify: true, file: path.join(DIST, 'flamegraph_page.js') });
}

/** Runs a daemon's start and end, so that the functions it needs are among the compiled ones. */
async function makeCache(command, cache, id) {
  const folder = mkdtempSync(path.join(tmpdir(), 'ringdisk-build-'));
  const hook = path.join(folder, 'hook.cjs');
  writeFileSync(
    hook,
    `process.on('exit', () => {
      const compiled = require(process.argv[1]).createCachedData();
      require('node:fs').writeFileSync(${JSON.stringify(cache)},
        Buffer.concat([Buffer.from('${id}'), compiled]));
    });`,
  );
  const args = ['serve', '--platform', 'loopback', '--runtime-dir', folder];
  const child = spawn(process.execPath, ['--require', hook, command, ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
    timeout: WARM_UP_MS,
  });
  // Where it can't serve (no io_uring), the cache has what it needed until then.
  child.stderr.on('data', (lines) => {
    if (String(lines).includes('"serving"')) child.kill('SIGTERM');
  });
  await new Promise((resolve) => child.on('close', resolve));
  rmSync(folder, { recursive: true, force: true });
}

await main();
