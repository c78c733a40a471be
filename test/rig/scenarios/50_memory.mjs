// SPDX-License-Identifier: Apache-2.0
// The daemon's memory stays flat while disks come and go.
import { Daemon } from '../dom0/daemon.mjs';
import { Guest } from '../dom0/guest.mjs';
import { fileTarget } from '../dom0/targets.mjs';
import { randomMix } from '../dom0/workloads.mjs';

const WARM_UP_ROUNDS = 4;
const ROUNDS = 8;
/** V8 may keep a little more between two collections; a leaked ring or pool would be far more. */
const GROWTH_MAX = 6 << 20;

/** @param {Guest} guest @param {number} rounds */
async function comeAndGo(guest, rounds) {
  const target = await fileTarget('come-and-go', 256 << 20);
  for (let round = 0; round < rounds; round++) {
    await guest.attach('xvda', target);
    await guest.run(randomMix('xvda'));
    await guest.detach('xvda');
  }
  const daemon = Daemon.current;
  if (!daemon) throw new Error('there is no daemon');
  return daemon.footprint();
}

/** @param {Guest} guest */
async function staysFlat(guest) {
  const before = await comeAndGo(guest, WARM_UP_ROUNDS);
  const after = await comeAndGo(guest, ROUNDS);
  const grown = after.rssBytes - before.rssBytes;
  if (grown <= GROWTH_MAX) return;
  const mib = (grown / (1 << 20)).toFixed(1);
  throw new Error(`${ROUNDS} disks came and went, and the daemon's RSS grew by ${mib} MiB`);
}

/** @type {import('../dom0/catalogue.mjs').Scenario[]} */
export const scenarios = [
  {
    name: 'memory',
    prepare: () => Guest.create('come-and-go'),
    full: true,
    tests: { 'flat while disks come and go': staysFlat },
  },
];
