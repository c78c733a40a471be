// SPDX-License-Identifier: Apache-2.0
// The control plane's hot spots, by the benchmark package: the xenstore codec, negotiation, and
// what one change costs a daemon that serves a thousand disks.
import { mkdtempSync, rmSync } from 'node:fs';
import Benchmark from 'benchmark';
import { readFrontendNodes } from '../../dist/blkif/frontend_nodes.js';
import { parseConfig } from '../../dist/config.js';
import { startDaemon } from '../../dist/daemon.js';
import { createLogger } from '../../dist/log.js';
import { createVbd } from '../../dist/platform/loopback_toolstack.js';
import { waitForNode } from '../../dist/platform/wait_for_node.js';
import { MemoryXenstore } from '../../dist/xenstore/memory_client.js';
import { MemorySession, MemoryStore } from '../../dist/xenstore/memory_store.js';
import {
  encodeMessage,
  MessageDecoder,
  messageType,
  writePayload,
} from '../../dist/xenstore/wire.js';

const VBDS = 1000;
const MESSAGES = 100;
const INIT_WAIT = '2';
const FRONTEND = {
  'multi-queue-num-queues': '4',
  protocol: 'x86_64-abi',
  'feature-persistent': '1',
  ...Object.fromEntries(
    [0, 1, 2, 3].flatMap((queue) => [
      [`queue-${queue}/ring-ref`, String(8 + queue)],
      [`queue-${queue}/event-channel`, String(20 + queue)],
    ]),
  ),
};

/** @returns {Promise<{ name: string, hz: number, rme?: number }[]>} */
export async function controlPlane() {
  const suite = new Benchmark.Suite();
  addCodec(suite);
  addNegotiation(suite);
  const machine = await thousandVbds();
  suite.add(`one of ${VBDS} VBDs changes: its nodes read anew, and decided`, {
    defer: true,
    fn: (/** @type {any} */ deferred) => machine.change().then(() => deferred.resolve()),
  });
  const results = await new Promise((resolve, reject) => {
    suite.on('complete', () => resolve(Array.from(suite)));
    suite.on('error', (/** @type {any} */ event) => reject(event.target.error));
    suite.run({ async: true });
  });
  await machine.close();
  const found = { name: `${VBDS} VBDs found and offered at start`, hz: 1000 / machine.startMs };
  return [...results.map(({ name, hz, stats }) => ({ name, hz, rme: stats.rme })), found];
}

/** @param {any} suite */
function addCodec(suite) {
  const message = {
    type: messageType.write,
    requestId: 7,
    transaction: 0,
    payload: writePayload('/local/domain/0/backend/vbd3/5/51712/feature-persistent', '1'),
  };
  const bytes = encodeMessage(message);
  const chunk = Buffer.concat(Array.from({ length: MESSAGES }, () => bytes));
  const decoder = new MessageDecoder();
  suite.add('xenstore: one message encoded', () => encodeMessage(message));
  suite.add(`xenstore: ${MESSAGES} messages decoded from one chunk`, () => decoder.push(chunk));
}

/** @param {any} suite */
function addNegotiation(suite) {
  const limits = { queuesMax: 8, ringPageOrderMax: 4 };
  const read = async (/** @type {string} */ node) => FRONTEND[node];
  suite.add("negotiation: a frontend's nodes with four queues, checked", {
    defer: true,
    fn: (/** @type {any} */ deferred) =>
      readFrontendNodes(read, limits).then(() => deferred.resolve()),
  });
}

/** Enough of a data path for disks that wait for their guests. */
const withoutData = {
  openTarget: async () => ({
    capabilities: {
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
      kind: 'null',
      identity: '',
      warnings: [],
    },
    waits: () => [],
    close: async () => {},
  }),
};

/** A daemon on an in-memory xenstore, whose disks have been offered and wait for their guests. */
async function thousandVbds() {
  const runtimeDir = mkdtempSync('/dev/shm/ringdisk-bench-');
  const store = new MemoryStore();
  const xenstore = new MemoryXenstore(new MemorySession(store, 0));
  const states = [];
  for (let domid = 1; domid <= VBDS; domid++) {
    const spec = { domid, devid: 51712, vdev: 'xvda', params: 'null:1073741824' };
    states.push(`${(await createVbd(xenstore, spec)).backend}/state`);
  }
  const platform = { xenstore, datapath: withoutData, backendDomid: 0 };
  const started = performance.now();
  const log = createLogger({ level: 'silent' });
  const daemon = await startDaemon(parseConfig({ runtimeDir }), platform, log);
  for (const state of states) {
    await waitForNode(xenstore, state, (value) => value === INIT_WAIT, `${state} is InitWait`);
  }
  const startMs = performance.now() - started;
  const vbds = daemon.vbds();
  let next = 0;
  // One after the other: a VBD may not be reconciled more than so often a second.
  const change = async () => {
    const vbd = vbds[next++ % VBDS];
    vbd.mark();
    // Takes its turn behind the reconcile, and is refused: nothing is connected.
    await vbd.resize().catch(() => {});
  };
  const close = async () => {
    await daemon.stop();
    rmSync(runtimeDir, { recursive: true });
  };
  return { startMs, close, change };
}
