// SPDX-License-Identifier: Apache-2.0
// Makes dist/bundle.cache, what V8 has compiled of the bundle, with the Node that runs this: another
// version of V8 does not take it. It runs a daemon's start and end, so that the functions it needs
// are among the compiled ones.
const { spawn } = require('node:child_process');
const { mkdtempSync, rmSync, writeFileSync } = require('node:fs');
const { tmpdir } = require('node:os');
const path = require('node:path');

const DIST = path.resolve(__dirname, '../../dist');
const CACHE = path.join(DIST, 'bundle.cache');
const LIMIT_MS = 60_000;

/** Runs in the daemon's process. The bundle's last line names it: launch.cjs takes no other's. */
const HOOK = `const { readFileSync, writeFileSync } = require('node:fs');
process.on('exit', () => {
  const compiled = require(process.argv[1]).createCachedData();
  const source = readFileSync(${JSON.stringify(path.join(DIST, 'bundle.cjs'))}, 'utf8');
  const id = source.trimEnd().slice(-64);
  writeFileSync(${JSON.stringify(CACHE)}, Buffer.concat([Buffer.from(id), compiled]));
});
`;

rmSync(CACHE, { force: true });
const folder = mkdtempSync(path.join(tmpdir(), 'ringdisk-cache-'));
const hook = path.join(folder, 'hook.cjs');
writeFileSync(hook, HOOK);
const command = path.join(DIST, 'ringdisk.cjs');
const args = ['serve', '--platform', 'loopback', '--runtime-dir', folder];
const child = spawn(process.execPath, ['--require', hook, command, ...args], {
  stdio: ['ignore', 'ignore', 'pipe'],
  timeout: LIMIT_MS,
});
// Where it can't serve (no io_uring), the cache has what it needed until then.
child.stderr.on('data', (lines) => {
  if (String(lines).includes('"serving"')) child.kill('SIGTERM');
});
child.on('close', () => rmSync(folder, { recursive: true, force: true }));
