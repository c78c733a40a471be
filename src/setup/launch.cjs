#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// The command, as bundle.mjs puts it into dist/: runs the bundle with what V8 made of it when it
// was built. Compiling it anew would be a fifth of the time for which guests wait when a daemon
// that died is followed by another. Without the cache, or with one of another V8, it is compiled.
const { readFileSync } = require('node:fs');
const { createRequire } = require('node:module');
const { join } = require('node:path');
const { Script } = require('node:vm');

const filename = join(__dirname, 'bundle.cjs');
const source = readFileSync(filename, 'utf8');

/** V8 checks its own version, but of the source only the length: the bundle's last line names it. */
function readCache() {
  try {
    const cache = readFileSync(join(__dirname, 'bundle.cache'));
    const id = cache.subarray(0, 64);
    return source.endsWith(`// ${id}\n`) ? cache.subarray(64) : undefined;
  } catch {
    return undefined;
  }
}

// As Node wraps any such file.
const parameters = 'exports, require, module, __filename, __dirname';
const script = new Script(`(function (${parameters}) {${source}})`, {
  filename,
  cachedData: readCache(),
});
module.exports = script; // for bundle.mjs, which makes the cache of it
script.runInThisContext()({}, createRequire(filename), {}, filename, __dirname);
