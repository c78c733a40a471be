// SPDX-License-Identifier: Apache-2.0
// One file of everything the command needs, since a daemon's guests wait while it starts: finding
// and linking a hundred modules takes longer than all of a take-over.
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

const bundle = await rolldown({ input: path.join(ROOT, 'dist/cli/main.js'), platform: 'node' });
// CommonJS: Node's loader for it starts faster than the one for ES modules.
await bundle.write({
  file: path.join(ROOT, 'dist/ringdisk.cjs'),
  format: 'cjs',
  codeSplitting: false,
});
