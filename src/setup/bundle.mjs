// SPDX-License-Identifier: Apache-2.0
// One file of everything the command needs, and what V8 makes of it, since a daemon's guests wait
// while it starts: finding, linking and compiling a hundred modules takes longer than all of a
// take-over. See launch.cjs.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, copyFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';

const SETUP = fileURLToPath(new URL('.', import.meta.url));
const DIST = path.resolve(SETUP, '../../dist');

async function main() {
  rmSync(path.join(DIST, 'bundle.cache'), { force: true });
  await writeBundle();
  await writeFlamegraphPage();
  const command = path.join(DIST, 'ringdisk.cjs');
  copyFileSync(path.join(SETUP, 'launch.cjs'), command);
  chmodSync(command, 0o755);
  // That it works at all.
  execFileSync(process.execPath, [command, '--version']);
  execFileSync(process.execPath, [path.join(SETUP, 'make_cache.cjs')]);
}

/** Its last line says its hash, by which what was compiled of it is known. */
async function writeBundle() {
  const bundle = await rolldown({
    input: path.join(DIST, 'cli/main.js'),
    platform: 'node',
    // Where there are ES modules: what others are wrapped in hides what they need.
    resolve: { mainFields: ['module', 'main'] },
  });
  // CommonJS: Node's loader for it starts faster than the one for ES modules.
  const { output } = await bundle.generate({ format: 'cjs', codeSplitting: false });
  const code = output[0].code.replace(/^#!.*\n/, '');
  const id = createHash('sha256').update(code).digest('hex');
  writeFileSync(path.join(DIST, 'bundle.cjs'), `${code}\n// ${id}\n`);
}

/** What the command puts into a flame graph's page; browsers know no modules in a file. */
async function writeFlamegraphPage() {
  const input = path.join(SETUP, 'flamegraph_page.mjs');
  // The page has styles of its own.
  const bundle = await rolldown({ input, moduleTypes: { '.css': 'empty' } });
  await bundle.write({ format: 'iife', minify: true, file: path.join(DIST, 'flamegraph_page.js') });
}

await main();
