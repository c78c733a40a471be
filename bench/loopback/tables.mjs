// SPDX-License-Identifier: Apache-2.0
// The loopback measurements as tables and charts.
import { digits, figure, shown } from '../report/figures.mjs';

/**
 * @typedef {import('./measure.mjs').Result & { case: string, peer: string, round: number }} Run
 * @typedef {import('../report/write.mjs').Table} Table
 */

const COUNTED = {
  uringEnters: 'io_uring_enter',
  submissions: 'SQEs',
  grantCalls: 'grant calls',
  grantCopies: 'grant copies',
  copiedBytes: 'bytes copied',
  notificationsReceived: 'notified',
  notificationsSent: 'notifies',
  wakeups: 'wake-ups',
  polls: 'polls',
};

/**
 * @param {Run[]} runs
 * @param {import('./cases.mjs').Case[]} cases in the order of the tables
 * @returns {Table[]}
 */
export function loopbackTables(runs, cases) {
  const measured = cases.filter(({ name }) => runs.some((run) => run.case === name));
  const own = runs.filter((run) => run.counted);
  return [speedTable(runs, measured), countedTable(own, measured)];
}

/** @param {Run[]} runs @param {import('./cases.mjs').Case[]} cases @returns {Table} */
function speedTable(runs, cases) {
  const rows = cases.flatMap(({ name, peers, against }) =>
    Object.keys(peers).map((peer) => {
      const mine = runs.filter((run) => run.case === name && run.peer === peer);
      const of = (/** @type {(run: Run) => number} */ value) => shown(figure(mine.map(value)));
      const ratios = mine.flatMap((run) => ratio(run, runs, against));
      const beside = peer === against ? '1' : shown(figure(ratios));
      const cpu = mine.every((run) => run.cpuNs !== undefined)
        ? of((run) => (run.cpuNs ?? 0) / run.ios / 1000)
        : '-';
      const latencies = mine.flatMap((run) => {
        const same = counterpart(run, runs, against);
        return same ? [run.p50Us / same.p50Us] : [];
      });
      const later = peer === against ? '1' : digits(figure(latencies).median);
      const [p50, p99] = [of((run) => run.p50Us), of((run) => run.p99Us)];
      return [name, peer, of(speed), beside, p50, later, p99, cpu];
    }),
  );
  const titles = [
    'case',
    'who',
    'I/Os a second',
    'ratio',
    'p50 µs',
    'ratio',
    'p99 µs',
    'CPU µs per I/O',
  ];
  const title =
    'Speed and latency; ratios are to limit or io_uring of the same round; CPU is that of the ' +
    "reactors, of the whole process for io_uring and fio, and never the kernel's own threads";
  return { title, titles, rows };
}

/**
 * Ratios to each case's own baseline.
 * @param {Run[]} runs
 * @param {import('./cases.mjs').Case[]} cases
 * @returns {import('../report/chart.mjs').Chart[]}
 */
export function loopbackCharts(runs, cases) {
  const bars = cases.flatMap(({ name, peers, against }) =>
    Object.keys(peers).flatMap((peer) => {
      const mine = runs.filter((run) => run.case === name && run.peer === peer);
      const ratios = mine.flatMap((run) => ratio(run, runs, against));
      if (peer === against || ratios.length === 0) return [];
      return [{ group: name, series: peer, ...figure(ratios) }];
    }),
  );
  if (bars.length === 0) return [];
  const series = [...new Set(bars.map((bar) => bar.series))];
  const title = 'I/Os a second against the bare loop (null target) or the io_uring loop';
  return [{ name: 'speed', title, axis: 'ratio', line: 1, series, bars }];
}

/** @param {Run} run @param {Run[]} runs @param {string} against */
function ratio(run, runs, against) {
  const same = counterpart(run, runs, against);
  return same ? [speed(run) / speed(same)] : [];
}

/** @param {Run} run @param {Run[]} runs @param {string} against */
function counterpart(run, runs, against) {
  return runs.find(
    (other) => other.case === run.case && other.round === run.round && other.peer === against,
  );
}

/** @param {Run} run */
function speed(run) {
  return run.ios / run.seconds;
}

/** @param {Run[]} runs @param {import('./cases.mjs').Case[]} cases @returns {Table} */
function countedTable(runs, cases) {
  const rows = cases.flatMap(({ name, peers }) =>
    Object.keys(peers).flatMap((peer) => {
      const mine = runs.filter((run) => run.case === name && run.peer === peer);
      if (mine.length === 0) return [];
      const cells = Object.keys(COUNTED).map((counter) =>
        digits(figure(mine.map((run) => (run.counted?.[counter] ?? 0) / run.ios)).median),
      );
      return [[name, peer, ...cells]];
    }),
  );
  const titles = ['case', 'who', ...Object.values(COUNTED)];
  return { title: 'Counted, per I/O (medians)', titles, rows };
}
