// SPDX-License-Identifier: Apache-2.0
// What an operator sees of a busy disk: its latencies, and where the daemon spends its time.
import { readFile } from 'node:fs/promises';
import { ringdiskJson } from '../dom0/daemon.mjs';
import { Guest } from '../dom0/guest.mjs';
import { blockTarget } from '../dom0/targets.mjs';
import { load, stopLoad } from '../dom0/workloads.mjs';

const PICTURE = '/host/logs/flamegraph.svg';
const SECONDS = 10;
const UNKNOWN_MAX = 0.01;
/** Of the daemon, of its way into the kernel, and of the disk's driver there. */
const FRAMES = ['ringdisk::Queue::poll', '__do_sys_io_uring_enter', 'nvme_'];

const prepare = () => blockTarget(0).then((xvda) => Guest.create('observed', { disks: { xvda } }));

/** @param {Guest} guest @param {() => Promise<unknown>} look */
async function underLoad(guest, look) {
  const busy = await guest.start(load('xvda'));
  await guest.run('sleep 3');
  try {
    await look();
  } finally {
    await guest.run(stopLoad('xvda'));
    await busy.ended;
  }
}

/** @param {Guest} guest */
async function flamegraph(guest) {
  await underLoad(guest, async () => {
    const args = ['--seconds', String(SECONDS), '--output', PICTURE];
    const { samples, unknownShare, unknownIn, threads } = await ringdiskJson('flamegraph', ...args);
    const share = `${(100 * unknownShare).toFixed(2)} % of the frames unknown`;
    console.log(`${samples} samples, ${share}; threads: ${Object.keys(threads).join(', ')}`);
    if (unknownShare >= UNKNOWN_MAX) throw new Error(`${share}: ${JSON.stringify(unknownIn)}`);
    const picture = await readFile(PICTURE, 'utf8');
    const missing = [...FRAMES, 'rd-reactor-0'].filter((name) => !picture.includes(name));
    if (missing.length > 0) throw new Error(`the picture has no ${missing.join(', ')}`);
  });
}

/** @param {Guest} guest */
async function latencies(guest) {
  await underLoad(guest, async () => {
    const { vbds } = await ringdiskJson('stats');
    const { counters, latency } = vbds[0];
    for (const [kind, count] of [
      ['read', counters.reads],
      ['write', counters.writes],
    ]) {
      const { p50Us, p99Us, maxUs } = latency[kind];
      console.log(`${kind}: p50 ${p50Us} us, p99 ${p99Us} us, longest ${maxUs} us`);
      if (latency[kind].count === 0 || latency[kind].count > count + 512) {
        throw new Error(`${latency[kind].count} latencies of ${count} requests (${kind})`);
      }
      if (!(p50Us > 0 && p50Us <= p99Us && p99Us <= maxUs))
        throw new Error(JSON.stringify(latency));
    }
  });
}

/** @type {import('../dom0/catalogue.mjs').Scenario[]} */
export const scenarios = [
  {
    name: 'observe',
    prepare,
    tests: {
      'latencies of a busy disk': latencies,
      'flame graph of a busy daemon': { full: true, run: flamegraph },
    },
  },
];
