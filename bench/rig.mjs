#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// How fast guests' disks are on real Xen, ringdisk's beside others', all in one boot of the rig:
//   npm run bench:rig -- [--icount] [--quick] ...
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Tail } from '../test/rig/host/follow.mjs';
import { boot, buildImage, obstacle } from '../test/rig/host/machine.mjs';
import { stage } from '../test/rig/host/stage.mjs';
import { writeReport } from './report/write.mjs';
import { blockdevsOf } from './rig/blockdevs.mjs';
import { DISKS, FULL, GUESTS, IMAGES, PEERS, QUICK, WORKLOADS } from './rig/plan.mjs';
import { rigCharts, rigTables, withoutOverhead } from './rig/tables.mjs';

const HELP = `usage: npm run bench:rig -- [--icount] [--quick] [--images] [--grants] [--rounds N]
         [--peers A,B] [--workloads A,B] [--guests A,B] [--disk nvme|null_blk]
         [--output DIR] [--share DIR] [--limit S]

  --icount      one CPU whose clock counts instructions: repeats to about 1 %, to steer by
                (default: wall clock on two CPUs)
  --quick       xen-blkback and ringdisk by persistent grants and by copies, five workloads
  --images      a qcow2 with nine settings of its cache, by ringdisk and by a QEMU, and a raw file
  --grants      ringdisk by every way of moving data, besides the other peers
  --rounds N    default 3
  --peers       of ${Object.keys(PEERS).join(', ')}; ratios are to the first
  --workloads   of ${Object.keys(WORKLOADS).join(', ')}
  --guests      of ${Object.keys(GUESTS).join(', ')}
  --disk        what block targets are (default nvme)
  --output DIR  where the report goes (default bench/results)
  --share DIR   use this folder as the rig's shared one (default: a new one)
  --limit S     end the rig after so many seconds (default 7200)

See bench/README.md and test/rig/README.md (RINGDISK_RIG_DIR, RIG_MIRROR).`;

const OPTIONS = {
  icount: { type: 'boolean', default: false },
  quick: { type: 'boolean', default: false },
  images: { type: 'boolean', default: false },
  grants: { type: 'boolean', default: false },
  rounds: { type: 'string', default: '3' },
  peers: { type: 'string' },
  workloads: { type: 'string' },
  guests: { type: 'string' },
  disk: { type: 'string', default: 'nvme' },
  output: { type: 'string', default: fileURLToPath(new URL('results', import.meta.url)) },
  share: { type: 'string' },
  limit: { type: 'string', default: '7200' },
  help: { type: 'boolean', short: 'h', default: false },
};

async function main() {
  const { values } = parseArgs({ options: OPTIONS });
  if (values.help) return console.log(HELP);
  const plan = makePlan(values);
  const why = obstacle();
  if (why) throw new Error(`the rig can't run here: ${why}`);
  const image = buildImage();
  const share = path.resolve(values.share ?? mkdtempSync(path.join(tmpdir(), 'ringdisk-bench-')));
  mkdirSync(share, { recursive: true });
  rmSync(path.join(share, 'logs'), { recursive: true, force: true });
  stage(share, ['bench/rig', 'bench/format_settings.mjs']);
  const events = await measure(image, share, plan, values.limit);
  const nothing = events.filter(({ event }) => event === 'nothing');
  const runs = withoutOverhead(
    events.filter(({ event }) => event === 'run'),
    nothing,
  );
  if (runs.length === 0) throw new Error(`nothing was measured; see ${share}/logs`);
  const failures = events.filter(({ event }) => event === 'failure');
  await writeReport(rigReport(plan, runs, failures), path.resolve(values.output), reportName(plan));
  if (!events.some(({ event }) => event === 'end') || failures.length > 0) process.exitCode = 1;
  if (process.exitCode === 1) console.log(`not all was measured; see ${share}/logs`);
  else if (values.share === undefined) rmSync(share, { recursive: true });
}

/** @returns {import('./rig/dom0.mjs').Plan} */
function makePlan(values) {
  const base = values.images ? IMAGES : values.quick ? QUICK : FULL;
  const { icount, disk } = values;
  const plan = { rounds: Number(values.rounds), icount, disk };
  if (!(disk in DISKS)) throw new Error(`no such disk: ${disk}; see --help`);
  const known = { peers: PEERS, workloads: WORKLOADS, guests: GUESTS };
  for (const [part, table] of Object.entries(known)) {
    plan[part] = values[part]?.split(',') ?? [...base[part]];
    const unknown = plan[part].filter((name) => !(name in table));
    if (unknown.length > 0) throw new Error(`no such ${part}: ${unknown}; see --help`);
  }
  if (values.grants) plan.peers.push('auto', 'persistent', 'copy', 'map');
  plan.peers = [...new Set(plan.peers)];
  plan.blockdevs = blockdevsOf(plan.peers);
  if (!(plan.rounds >= 1)) throw new Error(`--rounds takes a number, not "${values.rounds}"`);
  return plan;
}

/** Boots the rig, prints each run as it ends, and returns all that dom0 told. */
async function measure(image, share, plan, limit) {
  const results = path.join(share, 'results.jsonl');
  rmSync(results, { force: true });
  writeFileSync(path.join(share, 'plan.json'), JSON.stringify(plan));
  writeFileSync(path.join(share, 'dom0_job'), 'exec node /host/bench/rig/dom0.mjs\n');
  const tail = new Tail(results);
  const events = [];
  const whileRunning = () => {
    for (const event of tail.next()) {
      events.push(event);
      console.log(progress(event));
    }
  };
  const status = await boot(image, share, { limit, icount: plan.icount, whileRunning });
  if (status !== 0) console.log(`the rig ended with ${status}; see ${share}/logs/console.log`);
  return events;
}

function progress(event) {
  const { guest, peer, workload, round, ios, seconds } = event;
  if (event.event === 'run') {
    const speed = (ios / seconds).toFixed(0).padStart(7);
    return `  ${guest} ${round + 1} ${peer.padEnd(10)} ${workload.padEnd(5)}${speed}`;
  }
  if (event.event === 'failure') return `FAILED ${guest} ${round + 1} ${peer}: ${event.reason}`;
  if (event.event === 'nothing') return `  ${guest} ${round + 1} (a run without I/O)`;
  return event.text ?? '  end';
}

/** @returns {import('./report/write.mjs').Report} */
function rigReport(plan, runs, failures) {
  const remarks = plan.peers.filter((peer) => PEERS[peer].remark);
  const clock = plan.icount
    ? 'one emulated CPU whose clock counts instructions (QEMU -icount): a figure is a count of ' +
      'instructions per I/O over guest, Xen and dom0, one per nanosecond'
    : 'wall clock on two emulated CPUs: read ratios, not absolute figures; ' +
      `the host has ${availableParallelism()} CPUs`;
  const preface = [
    `Measured ${new Date().toISOString().slice(0, 16)}Z by \`npm run bench:rig\`, in one boot of ` +
      `real Xen under software emulation, ${clock}. Block targets: ${DISKS[plan.disk]}. ` +
      `${plan.rounds} rounds, peers interleaved; each figure is median [min–max].`,
    ...remarks.map((peer) => `${PEERS[peer].title}: ${PEERS[peer].remark}.`),
    ...failures.map(({ peer, guest, reason }) => `FAILED: ${peer}, ${guest}: ${reason}`),
  ];
  const data = { plan, runs, failures };
  const shown = { tables: rigTables(runs, plan), charts: rigCharts(runs, plan) };
  return { title: 'ringdisk on real Xen', preface, ...shown, data };
}

function reportName({ icount, disk }) {
  return `rig-${icount ? 'icount' : 'wall'}-${disk}`;
}

try {
  await main();
} catch (error) {
  console.error(`bench: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 2;
}
