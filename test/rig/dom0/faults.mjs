// SPDX-License-Identifier: Apache-2.0
// Disks that are made to fail, always a guest's xvdb, and what both policies promise of them.
import { assertQuiet, MARK } from './guest_log.mjs';
import { note } from './report.mjs';
import { waitFor } from './shell.mjs';
import { MappedDevice } from './targets.mjs';

const FAILING_MS = 60_000;

/** @typedef {'report' | 'stop'} OnError */
/** @typedef {import('./guest.mjs').Guest} Guest */

/**
 * Gives a guest a disk as xvdb while `body` runs.
 * @param {Guest} guest
 * @param {OnError} onError
 * @param {string} spec
 * @param {() => Promise<unknown>} body
 */
export async function withDisk(guest, onError, spec, body) {
  await guest.attach('xvdb', { spec: `on-error=${onError}:${spec}`, measured: '' });
  try {
    await guest.run(`wait_for_disk xvdb; ${MARK}`);
    await body();
  } finally {
    await guest.detach('xvdb').catch(() => {});
  }
  await guest.run('until [ ! -e /dev/xvdb ]; do sleep 0.2; done');
}

/**
 * The same with a mapped device, which is whole again when the disk is taken away.
 * @param {Guest} guest
 * @param {OnError} onError
 * @param {string} name
 * @param {(mapped: MappedDevice) => Promise<unknown>} body
 */
export async function withMapped(guest, onError, name, body) {
  const mapped = await MappedDevice.create(name);
  try {
    await withDisk(guest, onError, mapped.path, async () => {
      try {
        await body(mapped);
      } finally {
        await mapped.become(mapped.linear());
      }
    });
  } finally {
    await mapped.remove();
  }
}

/** @param {Guest} guest @param {number} count of requests that the guest saw fail, of xvdb */
export async function assertReported(guest, count) {
  const { counters, failing } = await guest.stats('xvdb');
  note(`${count} requests failed in the guest, ioErrors ${counters.ioErrors}`);
  if (count === 0) throw new Error('no request failed');
  if (counters.ioErrors !== count || counters.retries !== 0 || failing) {
    throw new Error(JSON.stringify({ counters, failing }));
  }
}

/** Waits until xvdb's requests wait. @param {Guest} guest @param {string} error */
export async function waitUntilFailing(guest, error) {
  // A daemon that has just started may still be taking the disk over.
  const isFailing = async () => (await guest.stats('xvdb'))?.failing?.error === error;
  await waitFor(`requests that wait for ${error}`, isFailing, { timeoutMs: FAILING_MS });
}

/** Nothing waits any more, and the guest has noticed nothing. @param {Guest} guest */
export async function assertRecovered(guest) {
  const { counters, failing } = await guest.stats('xvdb');
  note(`no request failed in the guest, retries ${counters.retries}`);
  if (counters.ioErrors !== 0 || counters.retries === 0 || failing) {
    throw new Error(JSON.stringify({ counters, failing }));
  }
  await assertQuiet(guest);
}

/**
 * Writes and reads blocks of xvdb one by one; says which failed.
 * @param {number} from
 * @param {number} to
 * @param {string} [size]
 */
export function blockByBlock(from, to, size = '4k') {
  return `for i in $(seq ${from} ${to}); do
  dd if=/dev/urandom of=/dev/xvdb bs=${size} seek=$i count=1 oflag=direct 2>/dev/null || echo "w$i"
  dd if=/dev/xvdb of=/dev/null bs=${size} skip=$i count=1 iflag=direct 2>/dev/null || echo "r$i"
done`;
}

/** @param {string[]} failed @param {string[]} expected */
export function assertFailed(failed, expected) {
  if (failed.join() !== expected.join()) throw new Error(`failed: ${failed}, not ${expected}`);
}
