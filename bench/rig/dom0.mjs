// SPDX-License-Identifier: Apache-2.0
// The benchmark's driver in dom0. One guest per set-up; round by round every peer in turn gets the
// same disk, and the guest does everything once. Each run is a line of /host/results.jsonl.
import { readFile } from 'node:fs/promises';
import { Daemon } from '../../test/rig/dom0/daemon.mjs';
import { Guest } from '../../test/rig/dom0/guest.mjs';
import { note, report } from '../../test/rig/dom0/report.mjs';
import { run } from '../../test/rig/dom0/shell.mjs';
import { blockTarget, fileTarget, nvmeTarget } from '../../test/rig/dom0/targets.mjs';
import { fioJob, flushesOf, parseFio } from './fio.mjs';
import { OwnQemu } from './own_qemu.mjs';
import {
  BLKBACK_PARAMETERS,
  GUESTS,
  IMAGE_GIB,
  IMAGE_PATH,
  PEERS,
  WARM_UP,
  WORKLOADS,
} from './plan.mjs';
import { CpuProbe, counters } from './probe.mjs';

const NULL_BLK = ['null_blk', 'nr_devices=1', 'gb=1', 'bs=512', 'irqmode=1', 'hw_queue_depth=256'];
const VDEV = 'xvda';
const RUN_MS = 600_000;
/** Of counters that only say how things are now, no difference can be taken. */
const GAUGES = /^(inFlight|mappedPages|bounceBytes|brokenQueues|boundPorts)$/;

/**
 * @typedef {object} Plan
 * @property {string[]} peers
 * @property {string[]} workloads
 * @property {string[]} guests
 * @property {number} rounds
 * @property {boolean} icount
 * @property {'nvme' | 'null_blk'} disk
 * @property {Record<string, string>} blockdevs JSON for QEMUs of their own, by peer
 */

async function main() {
  /** @type {Plan} */
  const plan = JSON.parse(await readFile('/host/plan.json', 'utf8'));
  const parameters = Object.entries(BLKBACK_PARAMETERS).map(([name, value]) => `${name}=${value}`);
  await run('modprobe', ['xen-blkback', ...parameters]);
  if (plan.disk === 'null_blk') await run('modprobe', NULL_BLK);
  for (const name of plan.guests) await measureGuest(plan, name);
  report({ event: 'end' });
}

/** @param {Plan} plan @param {string} name of the guest's set-up */
async function measureGuest(plan, name) {
  const { vcpus, icountVcpus, memoryMib, blkfront } = GUESTS[name];
  const guest = await Guest.create(`bench-${name}`, {
    vcpus: plan.icount ? icountVcpus : vcpus,
    memoryMib,
    blkfront,
    nativeTsc: true,
    disks: plan.peers.some((peer) => PEERS[peer].backend === 'qdisk') ? await qemuStarter() : {},
  });
  const probe = new CpuProbe(guest.domid);
  // The first connection of each peer pays for what the kernels then keep: it is not measured.
  const rehearsal = { ...plan, workloads: [] };
  for (const peer of plan.peers)
    await takeTurn(rehearsal, { guest, setup: name, probe, round: 0, peer });
  for (let round = 0; round < plan.rounds; round++) {
    await measureNothing({ guest, setup: name, probe, round });
    const turn = round % plan.peers.length;
    for (const peer of [...plan.peers.slice(turn), ...plan.peers.slice(0, turn)]) {
      await takeTurn(plan, { guest, setup: name, probe, round, peer });
    }
  }
  probe.close();
  await guest.destroy();
}

/**
 * A peer that fails is reported, and the others go on.
 * @param {Plan} plan
 * @param {Turn} turn
 */
async function takeTurn(plan, turn) {
  try {
    await measurePeer(plan, turn);
  } catch (error) {
    const { setup, peer, round } = turn;
    report({ event: 'failure', guest: setup, peer, round, reason: String(error) });
    await detach(turn.guest).catch(() => {});
  }
}

/**
 * What a run costs dom0 and the guest by itself: fio's start, the marks, timers.
 * @param {Omit<Turn, 'peer'>} turn
 */
async function measureNothing({ guest, setup, probe, round }) {
  const mark = `${setup}-${round}-nothing-`;
  await guest.run(fioJob('null', { ...WORKLOADS.rr1, mib: 1 }, mark, { engine: 'null' }));
  const { dom0, domu } = await probe.between(`${mark}a`, `${mark}b`);
  report({ event: 'nothing', guest: setup, round, dom0, domu });
}

/** libxl starts the QEMU that serves a guest's qdisks only where the guest is born with one. */
async function qemuStarter() {
  const target = await fileTarget('qemu-starter', 1 << 20);
  return { xvdz: { target, backend: /** @type {const} */ ('qdisk') } };
}

/**
 * @typedef {object} Turn
 * @property {Guest} guest
 * @property {string} setup
 * @property {CpuProbe} probe
 * @property {number} round
 * @property {string} peer
 *
 * @param {Plan} plan
 * @param {Turn} turn
 */
async function measurePeer(plan, turn) {
  const { guest, probe, setup, round, peer } = turn;
  const { backend, target: kind, daemon } = PEERS[peer];
  await provideDaemon(daemon);
  const target = await disk(kind, plan.disk, PEERS[peer].options);
  if (backend === 'own') await OwnQemu.start(guest.domid, VDEV, plan.blockdevs[peer] ?? '');
  else await guest.attach(VDEV, { target, backend });
  await guest.run(`wait_for_disk ${VDEV}`);
  const region = /^(raw|qcow2)$/.test(kind) ? { regionMib: IMAGE_GIB * 1024 } : {};
  for (const workload of WARM_UP) {
    await guest.run(fioJob(VDEV, workload, 'warm-', region), { timeoutMs: RUN_MS });
  }
  for (const workload of plan.workloads) {
    const mark = `${setup}-${round}-${peer}-${workload}-`;
    const before = daemon ? await counters() : {};
    const flushed = await deviceFlushes(target);
    const job = fioJob(VDEV, WORKLOADS[workload], mark, region);
    const lines = await guest.run(job, { timeoutMs: RUN_MS });
    const after = daemon ? await counters() : {};
    const fio = parseFio(lines, WORKLOADS[workload]);
    const cpu = await probe.between(`${mark}a`, `${mark}b`);
    const served = servedBy(backend, cpu.processes);
    const counted = difference(before, after);
    const flushes = (await deviceFlushes(target)) - flushed;
    const told = { ...fio, ...cpu, served, counted, deviceFlushes: flushes };
    report({ event: 'run', guest: setup, peer, workload, round, ...told });
  }
  await detach(guest);
}

/** @param {Guest} guest */
function detach(guest) {
  return OwnQemu.current ? OwnQemu.current.stop() : guest.detach(VDEV);
}

/**
 * @param {import('./plan.mjs').Peer['target']} kind
 * @param {Plan['disk']} block what block targets are
 * @param {string} [options] of a qcow2
 * @returns {Promise<import('../../test/rig/dom0/targets.mjs').Target>}
 */
async function disk(kind, block, options = '') {
  if (kind === 'raw') return fileTarget('raw', IMAGE_GIB * 2 ** 30);
  if (kind === 'qcow2') return imageTarget(options);
  if (kind === 'nvme') return nvmeTarget(0);
  if (kind === 'null') return { spec: `null:${1 << 30}`, measured: '' };
  return block === 'nvme' ? blockTarget(0) : { spec: '/dev/nullb0', measured: '' };
}

/** A new one: what a peer wrote is not the next one's. @param {string} options */
async function imageTarget(options) {
  const made = ['create', '-q', '-f', 'qcow2', '-o', 'preallocation=metadata'];
  await run('qemu-img', [...made, IMAGE_PATH, `${IMAGE_GIB}G`]);
  return { spec: `qcow2:${options}${IMAGE_PATH}`, measured: IMAGE_PATH };
}

/** @param {import('../../test/rig/dom0/targets.mjs').Target} target @returns NaN: not a device's */
async function deviceFlushes({ spec }) {
  const [, device] = /^\/dev\/(\w+)$/.exec(spec) ?? [];
  return device ? flushesOf(await readFile(`/sys/block/${device}/stat`, 'utf8')) : Number.NaN;
}

/** @param {Record<string, unknown> | undefined} wanted undefined: no daemon */
async function provideDaemon(wanted) {
  const daemon = Daemon.current;
  const label = wanted && JSON.stringify(wanted);
  if (daemon && !daemon.ended) {
    if (daemon.label === label) return;
    await daemon.stop();
  }
  if (wanted) await Daemon.start(wanted);
}

/**
 * @param {import('./plan.mjs').Peer['backend']} backend
 * @param {Record<string, number>} processes ns by "pid name"
 * @returns {number} ns of those that serve the disk
 */
function servedBy(backend, processes) {
  const daemon = new RegExp(`^${Daemon.current?.pid} `);
  const qemu = / (xen-)?qemu/;
  const pattern = { phy: / \d+\.xvd/, qdisk: qemu, own: qemu, tap: daemon }[backend];
  const helper = / qemu-storage/;
  const own = Object.entries(processes).filter(([name]) => pattern.test(name) || helper.test(name));
  return own.reduce((sum, [, ns]) => sum + ns, 0);
}

/**
 * @param {Record<string, number>} before
 * @param {Record<string, number>} after
 */
function difference(before, after) {
  const grown = Object.entries(after).map(([name, value]) => [name, value - (before[name] ?? 0)]);
  return Object.fromEntries(grown.filter(([name]) => !GAUGES.test(String(name))));
}

try {
  await main();
} catch (error) {
  note(error instanceof Error ? (error.stack ?? error.message) : String(error));
  process.exitCode = 1;
}
process.exit(); // guests and daemons that still run would keep it
