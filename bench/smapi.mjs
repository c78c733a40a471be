// SPDX-License-Identifier: Apache-2.0
// What XAPI waits for: Volume.stat with several callers at once, and SR.ls of a large SR, through
// the files that XAPI runs, the manager's socket and the manager; ZFS is played
// (smapi/fake_zfs.mjs).
// `npm run build`, then: node bench/smapi.mjs [CALLS]
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { layOutPlugins } from '../dist/smapi/layout.js';
import { smapiSocketPath } from '../dist/smapi/smapi_socket.js';
import { table } from './report/table.mjs';
import { keyOf } from './smapi/fake_zfs.mjs';

const calls = Number(process.argv[2] ?? 1000);
const folder = mkdtempSync('/dev/shm/ringdisk-bench-');
const root = path.join(folder, 'plugins');
const plugin = path.join(root, 'volume/org.xen.xapi.storage.ringdisk');
layOutPlugins(root, smapiSocketPath(folder));

/** @param {string} method @param {object} params @returns {Promise<string>} */
async function call(method, params) {
  const child = spawn(path.join(plugin, method), ['--json'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (piece) => {
    text += piece;
  });
  child.stdin.end(JSON.stringify({ dbg: 'bench', ...params }));
  const [status] = await once(child, 'close');
  if (status !== 0) throw new Error(text);
  return text;
}

/** @param {number} volumes */
async function startManager(volumes) {
  const program = path.join(import.meta.dirname, 'smapi/manager.mjs');
  const child = spawn(process.execPath, [program, folder, String(volumes)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  await lines.next();
  return {
    /** Its CPU time, in milliseconds. */
    end: async () => {
      child.kill('SIGTERM');
      return Number((await lines.next()).value);
    },
  };
}

/** Each of so many callers asks again as soon as it was answered. */
async function stat(/** @type {number} */ callers, /** @type {number} */ volumes) {
  const manager = await startManager(volumes);
  /** @type {number[]} */
  const times = [];
  let left = calls;
  await call('Volume.stat', { sr: 'tank', key: keyOf(0) });
  const one = async () => {
    while (left-- > 0) {
      const key = keyOf(Math.floor(Math.random() * volumes));
      const started = performance.now();
      await call('Volume.stat', { sr: 'tank', key });
      times.push(performance.now() - started);
    }
  };
  const started = performance.now();
  await Promise.all(Array.from({ length: callers }, one));
  const elapsed = performance.now() - started;
  const cpu = (await manager.end()) / times.length;
  times.sort((a, b) => a - b);
  const at = (/** @type {number} */ share) =>
    `${(times[Math.floor(times.length * share)] ?? 0).toFixed(1)} ms`;
  const name = `Volume.stat, ${callers} at once, ${volumes} volumes`;
  return [
    name,
    at(0.5),
    at(0.95),
    at(0.999),
    `${cpu.toFixed(1)} ms`,
    ((times.length / elapsed) * 1000).toFixed(0),
  ];
}

async function list(/** @type {number} */ volumes) {
  const manager = await startManager(volumes);
  /** @type {number[]} */
  const times = [];
  for (let n = 0; n < 9; n++) {
    const started = performance.now();
    const found = JSON.parse(await call('SR.ls', { sr: 'tank' }));
    if (found.length !== volumes) throw new Error(`${found.length} volumes`);
    times.push(performance.now() - started);
  }
  const cpu = (await manager.end()) / times.length;
  times.sort((a, b) => a - b);
  const at = (/** @type {number} */ index) => `${(times[index] ?? 0).toFixed(0)} ms`;
  return [`SR.ls, ${volumes} volumes`, at(4), at(8), at(8), `${cpu.toFixed(0)} ms`, ''];
}

try {
  const rows = [await stat(1, 500), await stat(8, 500), await list(500), await list(5000)];
  const titles = ['call', 'p50', 'p95', 'longest', "manager's CPU", 'a second'];
  process.stdout.write(
    `${table(titles, rows)}\n${os.cpus().length} CPUs, Node ${process.version}\n`,
  );
} finally {
  rmSync(folder, { recursive: true, force: true });
}
