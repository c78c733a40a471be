// SPDX-License-Identifier: Apache-2.0
// Whether a guest noticed anything: its kernel's log must have got no line.

/** Marks the guest's kernel log; afterwards `assertQuiet` finds what it got since. */
export const MARK = 'dmesg | wc -l > /tmp/dmesg.mark';
/**
 * A guest's kernel stops at a breakpoint by which it changes its own code, and which is gone by
 * then: it panics. The emulated CPU's fault.
 */
export const STRAY_BREAKPOINT = /Oops: int3:/;
/**
 * What Xen reports of a guest that comes to stand in Xen's own code, by its segment: the emulated
 * CPU's nested virtualisation let it through. Only a guest with virtualised paging can.
 */
export const STRAY_EXIT = /Triple fault[\s\S]*?RIP: +e008:\[<ffff82d0/;
/** What the emulation and the test's own work make a guest's kernel say. */
const NOISE = new RegExp(
  [
    'clocksource:|tsc: Marking TSC unstable|TSC found unstable|sched_clock: Marking',
    'hrtimer:|sched: DL replenish',
    'drop_caches:|EXT4-fs \\(xvd.\\): (un)?mount',
  ].join('|'),
);

/** @param {import('./guest.mjs').Guest} guest that has run MARK */
export async function assertQuiet(guest, expected = /$^/) {
  const all = await guest.run('dmesg | tail -n +$(($(cat /tmp/dmesg.mark) + 1))');
  const lines = all.filter((line) => !NOISE.test(line) && !expected.test(line));
  if (lines.length > 0) throw new Error(`in the guest's kernel log: ${lines.join(' | ')}`);
}
