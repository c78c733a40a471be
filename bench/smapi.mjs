// SPDX-License-Identifier: Apache-2.0
// What XAPI waits for: Volume.stat with several callers at once, and SR.ls of a large SR, through
// the files that XAPI runs, the manager's socket and the manager; ZFS is played
// (smapi/fake_zfs.mjs).
// `npm run build`, then: node bench/smapi.mjs [CALLS]
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { layOutPlugins } from '../dist/smapi/layout.js';
import { smapiSocketPath } from '../dist/smapi/smapi_socket.js';
import { table } from './report/table.mjs';
import { keyOf } from './smapi/fake_zfs.mjs';

const calls = Number(process.argv[2] ?? 1000);
const TICKS_PER_SECOND = 100;
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
    /** Tells its CPU time, in milliseconds. */
    end: async () => {
      child.kill('SIGTERM');
      return Number((await lines.next()).value);
    },
  };
}

/** Each of so many callers asks again as soon as it was answered. */
async function stat(/** @type {number} */ callers, /** @type {number} */ volumes) {
  let left = calls;
  const name = `Volume.stat, ${callers} at once, ${volumes} volumes`;
  return measure(name, volumes, async (timed) => {
    const one = async () => {
      while (left-- > 0) {
        const key = keyOf(Math.floor(Math.random() * volumes));
        await timed(() => call('Volume.stat', { sr: 'tank', key }));
      }
    };
    await Promise.all(Array.from({ length: callers }, one));
  });
}

async function list(/** @type {number} */ volumes) {
  return measure(`SR.ls, ${volumes} volumes`, volumes, async (timed) => {
    for (let n = 0; n < 9; n++) {
      const found = JSON.parse(await timed(() => call('SR.ls', { sr: 'tank' })));
      if (found.length !== volumes) throw new Error(`${found.length} volumes`);
    }
  });
}

/**
 * @param {string} name
 * @param {number} volumes
 * @param {(timed: (step: () => Promise<string>) => Promise<string>) => Promise<void>} run
 */
async function measure(name, volumes, run) {
  const manager = await startManager(volumes);
  await call('Volume.stat', { sr: 'tank', key: keyOf(0) });
  /** @type {number[]} */
  const times = [];
  const before = childrensCpu();
  await run(async (step) => {
    const started = performance.now();
    const answer = await step();
    times.push(performance.now() - started);
    return answer;
  });
  const plugin = (childrensCpu() - before) / times.length;
  const cpu = (await manager.end()) / times.length;
  times.sort((a, b) => a - b);
  const at = (/** @type {number} */ share) => ms(times[Math.floor(times.length * share)] ?? 0);
  return [name, at(0.5), at(0.95), ms(times.at(-1) ?? 0), ms(plugin), ms(cpu)];
}

/** Of all processes that have been started and have ended, in milliseconds. */
function childrensCpu() {
  const fields = readFileSync('/proc/self/stat', 'latin1').split(') ').at(-1)?.split(' ') ?? [];
  const ticks = Number(fields[13]) + Number(fields[14]);
  return (ticks * 1000) / TICKS_PER_SECOND;
}

function ms(/** @type {number} */ milliseconds) {
  return `${milliseconds.toFixed(milliseconds < 100 ? 1 : 0)} ms`;
}

try {
  const rows = [await stat(1, 500), await stat(8, 500), await list(500), await list(5000)];
  const titles = ['call', 'p50', 'p95', 'longest', "plugin's CPU", "manager's CPU"];
  process.stdout.write(
    `${table(titles, rows)}\n${os.cpus().length} CPUs, Node ${process.version}\n`,
  );
} finally {
  rmSync(folder, { recursive: true, force: true });
}
