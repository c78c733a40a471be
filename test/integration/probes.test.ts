// SPDX-License-Identifier: Apache-2.0
// The probes of the built addon are those that native/metrics/probes.h documents, and those that
// the bpftrace scripts use.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const ADDON = path.join(ROOT, 'build/Release/ringdisk.node');
const TABLE = path.join(ROOT, 'native/metrics/probes.h');
const SCRIPTS = path.join(ROOT, 'src/host/bpftrace');

/** How many arguments each probe has. */
type Probes = Record<string, number>;

function builtProbes(): Probes {
  const notes = execFileSync('readelf', ['--notes', '--wide', ADDON], { encoding: 'utf8' });
  const probes: Probes = {};
  const pattern = /Provider: ringdisk\n\s+Name: (\w+)\n.*\n\s+Arguments: (.*)/g;
  for (const [, name = '', operands = ''] of notes.matchAll(pattern)) {
    const count = operands.match(/-?\d+@/g)?.length ?? 0;
    // Inlined code has it several times; all must be alike.
    expect(probes[name] ?? count).toBe(count);
    probes[name] = count;
  }
  return probes;
}

/** The comment's table: a name, then one word per argument. */
function documentedProbes(): Probes {
  const lines = readFileSync(TABLE, 'utf8').matchAll(/^\/\/ {3}((?:request|ring)_\w+) +(.+)$/gm);
  const entries = [...lines].map(([, name = '', names = '']) => [name, names.split(/ +/).length]);
  return Object.fromEntries(entries) as Probes;
}

describe('probes', () => {
  it('are those that are documented', () => {
    const documented = documentedProbes();
    expect(Object.keys(documented).length).toBeGreaterThan(0);
    expect(builtProbes()).toEqual(documented);
  });

  it.each(readdirSync(SCRIPTS))('%s uses only such', (script) => {
    const documented = documentedProbes();
    const text = readFileSync(path.join(SCRIPTS, script), 'utf8');
    const blocks = [...text.matchAll(/^usdt:[^:]*:ringdisk:(\w+)([^}]*)/gm)];
    expect(blocks.length).toBeGreaterThan(0);
    for (const [, name = '', body = ''] of blocks) {
      const used = [...body.matchAll(/\barg(\d)/g)].map(([, index]) => Number(index));
      expect(documented).toHaveProperty(name);
      expect(Math.max(-1, ...used)).toBeLessThan(documented[name] ?? 0);
    }
  });
});
