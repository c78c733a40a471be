// SPDX-License-Identifier: Apache-2.0
// A guest whose frontend lies (hostile/), and what its neighbour notices of it: nothing but the
// time that the lies take from the host.
import { Daemon, ringdiskJson } from '../dom0/daemon.mjs';
import { devid, Guest } from '../dom0/guest.mjs';
import { note } from '../dom0/report.mjs';
import { run, waitFor } from '../dom0/shell.mjs';
import { blockTarget, fileTarget } from '../dom0/targets.mjs';
import { load, stopLoad } from '../dom0/workloads.mjs';

const MIB = 1 << 20;
const MEASURE_S = 8;
const LIES_MS = 360_000;
/** More than this per liar would be the liar's choice, not ours. */
const RSS_GROWTH_MAX = 48 << 20;
/** Of what a neighbour has beside a guest that only spins, a liar must leave it at least this. */
const SHARE_MIN = 0.25;

async function prepare() {
  // What stops a guest from filling xenstore is xenstored; here it may.
  for (const quota of ['nodes', 'memory']) {
    await run('xenstore-control', ['quota', 'set', quota, '1000000000']);
  }
  const neighbour = await Guest.create('neighbour', { disks: { xvda: await blockTarget(0) } });
  // Its disk has no blkfront: nobody but the liar drives it.
  const liar = await Guest.create('liar', {
    disks: { xvda: await fileTarget('liar', 64 * MIB) },
    blkfront: 'none',
    vcpus: 1,
  });
  return { neighbour, liar };
}

/** @typedef {Awaited<ReturnType<typeof prepare>>} Shared */

/** @param {Guest} guest @returns {Promise<number>} I/Os a second */
async function throughput(guest) {
  const [line] = await guest.run(
    `wait_for_disk xvda
fio --name=measure --filename=/dev/xvda --ioengine=libaio --direct=1 --rw=randrw --bs=4k \\
  --iodepth=16 --size=2M --verify=crc32c --verify_backlog=64 --time_based \\
  --runtime=${MEASURE_S} --output-format=terse --terse-version=3 > /tmp/terse
awk -F ';' '{ print $8 + $49 }' /tmp/terse`,
    { timeoutMs: 120_000 },
  );
  return Number(line);
}

/** @param {Guest} liar @param {string} lies names, or nothing for all */
function startLies(liar, lies = '') {
  const seed = Math.floor(Math.random() * 1e6);
  const script = `echo "seed ${seed}"; hostile ${devid('xvda')} ${seed} ${lies}`;
  return liar.start(script, { timeoutMs: LIES_MS });
}

/** Again and again until /tmp/stop. @param {Guest} liar @param {string} lie */
function keepLying(liar, lie) {
  const script = `rm -f /tmp/stop
until [ -e /tmp/stop ]; do hostile ${devid('xvda')} 1 ${lie} > /tmp/lies || cat /tmp/lies; done`;
  return liar.start(script, { timeoutMs: LIES_MS });
}

/** @param {Shared} shared */
async function allLies({ neighbour, liar }) {
  const { current } = Daemon;
  if (!current) throw new Error('there is no daemon');
  const before = await current.footprint();
  const busy = await neighbour.start(load('xvda'), { timeoutMs: LIES_MS });
  const lies = await startLies(liar);
  const told = await lies.ended;
  for (const line of told) note(line);
  await neighbour.run(stopLoad('xvda'));
  await busy.ended;
  const { counters } = await neighbour.stats('xvda');
  if (counters.ioErrors + counters.rejected > 0) {
    throw new Error(`the neighbour had errors: ${JSON.stringify(counters)}`);
  }
  if (Daemon.current !== current || current.ended) throw new Error('the daemon did not survive');
  const grown = (await current.footprint()).rssBytes - before.rssBytes;
  note(`the daemon's RSS grew by ${(grown / MIB).toFixed(1)} MiB`);
  if (grown > RSS_GROWTH_MAX) throw new Error('the daemon grew too much');
}

/** Lies that cost the host most. */
const COSTLY = ['event-storm', 'random-entries', 'any-state', 'producer-restless', 'double-fetch'];

/** @param {Shared} shared */
async function neighbourThroughput({ neighbour, liar }) {
  const alone = await throughput(neighbour);
  const spinning = await liar.start('rm -f /tmp/stop; until [ -e /tmp/stop ]; do :; done');
  const besideSpinner = await throughput(neighbour);
  await liar.run('touch /tmp/stop');
  await spinning.ended;
  note(`neighbour, I/Os a second: alone ${alone}, beside a guest that only spins ${besideSpinner}`);
  for (const lie of COSTLY) {
    const lies = await keepLying(liar, lie);
    const beside = await throughput(neighbour);
    note(`beside ${lie}: ${beside}`);
    if (beside < SHARE_MIN * besideSpinner)
      throw new Error(`${lie} takes more than a spinning CPU`);
    await liar.run('touch /tmp/stop');
    const failures = await lies.ended;
    if (failures.length > 0) throw new Error(failures.join(' | '));
  }
}

/** What the liar held comes back when it is gone in the middle of a lie. @param {Shared} shared */
async function liarVanishes({ neighbour, liar }) {
  const { vbds } = await ringdiskJson('list');
  const own = vbds.find((/** @type {any} */ { name }) => name.endsWith(neighbour.vbd('xvda')));
  const ports = own.agreement.queues.length;
  await keepLying(liar, 'double-fetch');
  const lying = async () => (await held()).boundPorts > ports;
  await waitFor('the liar to be connected', lying, { timeoutMs: 60_000 });
  await liar.destroy();
  const onlyOwn = async () => (await held()).boundPorts === ports;
  await waitFor(`only the neighbour's ${ports} ports`, onlyOwn, { timeoutMs: 20_000 });
  note(`${(await held()).mappedPages} pages are mapped, all of them the neighbour's`);
  const listed = (await ringdiskJson('list')).vbds.length;
  if (listed !== 1) throw new Error(`${listed} disks are listed`);
}

async function held() {
  return (await ringdiskJson('stats')).engine;
}

/** @type {import('../dom0/catalogue.mjs').Scenario[]} */
export const scenarios = [
  {
    name: 'hostile guest',
    prepare,
    // Xen says so of every grant that does not exist.
    tolerated: /xen: .*grant|Bad (ref|grant|flags)|grant_table\.c/,
    tests: {
      'every lie, beside a neighbour under verified load': allLies,
      "the neighbour's throughput": { full: true, run: neighbourThroughput },
      'vanishes in the middle': liarVanishes,
    },
  },
];
