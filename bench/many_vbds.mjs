// SPDX-License-Identifier: Apache-2.0
// What a thousand disks cost the control plane: found and offered, connected, taken over by the
// next daemon, listed, and one guest's end. On an in-memory xenstore and a data path without data,
// so the times are the control plane's own and the store's: its commits copy the tree and its
// watches are looked through one by one, so that part grows with the square.
// `npm run build`, then: node bench/many_vbds.mjs [DISKS]
import { EventEmitter } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { parseConfig } from '../dist/config.js';
import { startDaemon } from '../dist/daemon.js';
import { createLogger } from '../dist/log.js';
import { createVbd } from '../dist/platform/loopback_toolstack.js';
import { MemoryXenstore } from '../dist/xenstore/memory_client.js';
import { MemorySession, MemoryStore } from '../dist/xenstore/memory_store.js';

const disks = Number(process.argv[2] ?? 1000);
const QUEUES = 4;
const CAPABILITIES = {
  capacity: 1 << 30,
  ioAlignment: 512,
  physicalBlock: 4096,
  readOnly: false,
  direct: true,
  discard: true,
  secureDiscard: false,
  discardGranularity: 4096,
  discardAlignment: 0,
  rotational: false,
  kind: 'file',
  warnings: [],
};

/** As far as the control plane can tell, a data path. */
const withoutData = {
  openTarget: async (/** @type {{ path: string }} */ { path }) => ({
    handle: 1,
    capabilities: { ...CAPABILITIES, identity: path },
    fence: undefined,
    claim: async () => {},
    refresh: async () => CAPABILITIES,
    waits: () => [],
    close: async () => {},
  }),
  connect: async (/** @type {unknown} */ _target, /** @type {any} */ { queues }) => {
    for (const { journal } of queues) writeFileSync(journal, '');
    return Object.assign(new EventEmitter(), {
      recovered: Promise.resolve(),
      counters: () => ({ reads: 0, replayed: 0, redelivered: 0 }),
      reactors: () => [],
      latency: () => undefined,
      disconnect: async () => {},
    });
  },
  counters: () => ({ mappedPages: 0, boundPorts: 0, reactors: [] }),
  close: () => {},
};

const runtimeDir = mkdtempSync('/dev/shm/ringdisk-bench-');
const store = new MemoryStore();
const toolstack = new MemoryXenstore(new MemorySession(store, 0));
const log = createLogger({ level: 'silent' });
const config = parseConfig({ runtimeDir });
/** @type {import('../dist/platform/loopback_toolstack.js').VbdPaths[]} */
const vbds = [];

async function start() {
  const xenstore = new MemoryXenstore(new MemorySession(store, 0));
  const counted = count(xenstore);
  const platform = { xenstore, datapath: withoutData, backendDomid: 0 };
  // @ts-expect-error: a platform, as far as the daemon needs it here.
  const daemon = await startDaemon(config, platform, log);
  return { daemon, xenstore, counted };
}

/** @param {any} xenstore */
function count(xenstore) {
  const counted = { requests: 0 };
  for (const name of ['read', 'write', 'directory', 'remove', 'transaction']) {
    const request = xenstore[name].bind(xenstore);
    xenstore[name] = (/** @type {unknown[]} */ ...values) => {
      counted.requests++;
      return request(...values);
    };
  }
  return counted;
}

/**
 * @param {any} daemon
 * @param {string} state
 * @param {number} [expected]
 */
async function until(daemon, state, expected = disks) {
  const reached = () => daemon.vbds().filter((/** @type {any} */ v) => v.info().state === state);
  while (reached().length < expected) await new Promise((resolve) => setTimeout(resolve, 5));
}

/**
 * @param {string} what
 * @param {() => Promise<string | undefined>} step
 */
async function measure(what, step) {
  const started = performance.now();
  const more = await step();
  const ms = performance.now() - started;
  console.log(`${what.padEnd(44)} ${ms.toFixed(ms < 10 ? 2 : 0).padStart(7)} ms  ${more ?? ''}`);
}

async function connectFrontend(/** @type {string} */ frontend) {
  await toolstack.transaction(async (requests) => {
    await requests.write(`${frontend}/multi-queue-num-queues`, String(QUEUES));
    await requests.write(`${frontend}/protocol`, 'x86_64-abi');
    for (let queue = 0; queue < QUEUES; queue++) {
      await requests.write(`${frontend}/queue-${queue}/ring-ref`, String(8 + queue));
      await requests.write(`${frontend}/queue-${queue}/event-channel`, String(20 + queue));
    }
    await requests.write(`${frontend}/state`, '3');
  });
}

for (let domid = 1; domid <= disks; domid++) {
  const params = `file:/srv/${domid}.img`;
  vbds.push(await createVbd(toolstack, { domid, devid: 51712, vdev: 'xvda', params }));
}
console.log(`${disks} guests with one disk of ${QUEUES} queues each`);
let { daemon, counted } = await start();
await measure('found and offered at start', () => until(daemon, 'InitWait').then(() => undefined));
await measure('connected', async () => {
  for (const { frontend } of vbds) await connectFrontend(frontend);
  await until(daemon, 'Connected');
  return undefined;
});
for (const { frontend } of vbds) await toolstack.write(`${frontend}/state`, '4');
daemon.leave();
await measure('all taken over by the next daemon', async () => {
  ({ daemon, counted } = await start());
  await until(daemon, 'Connected');
  return undefined;
});
await new Promise((resolve) => setTimeout(resolve, 500));
await measure('list', async () => {
  const text = JSON.stringify(daemon.vbds().map((/** @type {any} */ vbd) => vbd.info()));
  return `${(text.length / 2 ** 20).toFixed(1)} MiB of JSON`;
});
await measure('show, by name', async () => String(daemon.find('1/xvda').info().state));
counted.requests = 0;
await measure("one guest's end", async () => {
  const [first] = vbds;
  if (first) await toolstack.remove(first.backend.replace(/\/[0-9]+$/, ''));
  while (daemon.vbds().length === disks) await new Promise((resolve) => setImmediate(resolve));
  return `${counted.requests} xenstore requests`;
});
await measure('all closed at the end of the daemon', async () => {
  const stopped = daemon.stop();
  for (const { frontend } of vbds) await toolstack.write(`${frontend}/state`, '6').catch(() => {});
  await stopped;
  return undefined;
});
rmSync(runtimeDir, { recursive: true });
process.exit(0);
