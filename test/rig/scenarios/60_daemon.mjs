// SPDX-License-Identifier: Apache-2.0
// The daemon's own comings and goings, and what it says about its host.
import { Daemon, ringdiskJson } from '../dom0/daemon.mjs';
import { Guest } from '../dom0/guest.mjs';
import { waitFor } from '../dom0/shell.mjs';
import { blockTarget, nvmeTarget } from '../dom0/targets.mjs';
import { load, randomMix, stopLoad } from '../dom0/workloads.mjs';
import { listNodes } from '../dom0/xenstore.mjs';

const CLOSED = '6';
const CONNECTED = '4';

/** A disk that waits for its backend: libxl gives up after 10 s. */
async function startsLate() {
  const known = await listNodes('/local/domain/0/backend/vbd3');
  const creation = Guest.startCreation('early', { disks: { xvda: await blockTarget(0) } });
  creation.catch(() => {});
  const isNew = (/** @type {string} */ domid) => !known.includes(domid);
  const appears = async () => (await listNodes('/local/domain/0/backend/vbd3')).some(isNew);
  await waitFor('the disk in xenstore', appears, { timeoutMs: 20_000 });
  await Daemon.start();
  await creation;
  const guest = await Guest.created('early');
  await guest.run(randomMix('xvda'));
  await guest.destroy();
}

/** The guest does not use its disk meanwhile, so it may lose it without an error. */
async function stopsCleanly() {
  await stopRunning();
  const daemon = await Daemon.start({ closeOnStop: true });
  const guest = await Guest.create('closed', { disks: { xvda: await blockTarget(0) } });
  await guest.run(randomMix('xvda'));
  await daemon.stop();
  const state = await guest.backendState('xvda');
  if (state !== CLOSED) throw new Error(`the backend's state is ${state}`);
  await guest.destroy();
}

/** What the stopped daemon had not answered is the next one's. */
async function leavesDisks() {
  await stopRunning();
  const leaving = await Daemon.start();
  const guest = await Guest.create('left', { disks: { xvda: await nvmeTarget(1) } });
  const busy = await guest.start(load('xvda'));
  await guest.run('sleep 2');
  await leaving.stop();
  const state = await guest.backendState('xvda');
  if (state !== CONNECTED) throw new Error(`the backend's state is ${state}`);
  await Daemon.start();
  await guest.run(`sleep 2; ${stopLoad('xvda')}`);
  await busy.ended;
  await guest.destroy();
}

/** Every thread of it: one that kept a capability would be the way to all of them. */
async function givesUpPrivileges() {
  await stopRunning();
  const daemon = await Daemon.startPrivileged();
  const statuses = await daemon.threadStatuses();
  for (const status of statuses) {
    const held = status.match(/^Cap(Inh|Prm|Eff|Bnd|Amb):\s*0*[1-9a-f]\w*$/m);
    if (held || !/^NoNewPrivs:\s*1$/m.test(status)) throw new Error(status);
  }
  const guest = await Guest.create('unprivileged', {
    disks: { xvda: await blockTarget(0), xvdb: await nvmeTarget(1) },
  });
  await guest.run(randomMix('xvda'));
  await guest.run(randomMix('xvdb'));
  await guest.destroy();
}

async function doctorIsContent() {
  await running();
  const { verdicts } = await ringdiskJson('doctor');
  const failed = verdicts.filter((/** @type {any} */ { status }) => status === 'fail');
  if (failed.length > 0) throw new Error(JSON.stringify(failed));
  const blkback = verdicts.find((/** @type {any} */ { check }) => check === 'xen-blkback');
  if (blkback?.found !== 'not loaded') throw new Error(`xen-blkback: ${JSON.stringify(blkback)}`);
}

async function running() {
  const { current } = Daemon;
  return current && !current.ended ? current : Daemon.start();
}

async function stopRunning() {
  const { current } = Daemon;
  if (current && !current.ended) await current.stop();
}

/** @type {import('../dom0/catalogue.mjs').Scenario[]} */
export const scenarios = [
  {
    name: 'daemon',
    daemon: 'none',
    tests: {
      'starts after the disk': startsLate,
      'closes its disks when it stops, if asked to': stopsCleanly,
      'leaves disks to the next one under load': leavesDisks,
      'gives up its privileges by itself': { full: true, run: givesUpPrivileges },
      'doctor finds nothing wrong': doctorIsContent,
    },
  },
];
