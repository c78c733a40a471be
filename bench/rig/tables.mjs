// SPDX-License-Identifier: Apache-2.0
// The rig's runs as tables: medians of all rounds, and against the first peer of the plan.
import { digits, figure, shown } from '../report/figures.mjs';
import { GUESTS, PEERS, WORKLOADS } from './plan.mjs';

/**
 * @typedef {object} Run
 * @property {string} guest
 * @property {string} peer
 * @property {string} workload
 * @property {number} round
 * @property {number} ios
 * @property {number} seconds
 * @property {number} meanUs
 * @property {number} p50Us
 * @property {number} p99Us
 * @property {number} dom0    ns that Xen ran dom0
 * @property {number} domu    ns that Xen ran the guest
 * @property {number} served  ns of the processes or kernel threads that serve the disk
 * @property {Record<string, number>} counted ringdisk's counters
 * @property {number} guestFlushes  of the guest's block layer to its driver
 * @property {number} deviceFlushes that dom0's block layer had the disk carry out
 *
 * @typedef {import('../report/write.mjs').Table} Table
 *
 * What a table shows of a run.
 * @typedef {{ title: string, of: (run: Run) => number, ratio?: boolean,
 *   only?: (workload: string) => boolean }} Measure
 */

/** @type {Measure[]} */
const MEASURES = [
  { title: 'Speed: IOPS, or MiB/s where blocks are of 1 MiB', of: speed, ratio: true },
  {
    title: 'dom0 CPU per I/O, µs (all that Xen ran dom0)',
    of: perIo((run) => run.dom0),
    ratio: true,
  },
  { title: 'CPU of the guest per I/O, µs', of: perIo((run) => run.domu), ratio: true },
  {
    title: "CPU of the disk's own process or kernel threads per I/O, µs (Xen's part not included)",
    of: perIo((run) => run.served),
    ratio: true,
  },
  {
    title: 'Mean completion latency, µs',
    of: (run) => run.meanUs,
    only: (name) => /1$/.test(name),
  },
  { title: '99th percentile of completion latency, µs', of: (run) => run.p99Us },
  {
    title: "Flushes of dom0's disk per flush of the guest",
    of: (run) => run.deviceFlushes / run.guestFlushes,
    only: (name) => name.startsWith('fs'),
  },
  {
    title: "Flushes of dom0's disk per write",
    of: (run) => run.deviceFlushes / run.ios,
    only: (name) => name.startsWith('fs'),
  },
];

const COUNTED = {
  grantCalls: 'grant calls',
  grantMaps: 'pages mapped',
  grantCopies: 'grant copies',
  copiedBytes: 'bytes copied',
  notificationsReceived: 'notified',
  notificationsSent: 'notifies',
  wakeups: 'wake-ups',
  uringEnters: 'io_uring_enter',
  submissions: 'SQEs',
  polls: 'polls',
};

/**
 * @param {Run[]} runs
 * @param {import('./dom0.mjs').Plan} plan
 * @returns {Table[]}
 */
export function rigTables(runs, plan) {
  return plan.guests.flatMap((guest) => {
    const own = runs.filter((run) => run.guest === guest);
    const tables = MEASURES.map((measure) => measured(own, plan, measure)).filter(
      ({ rows }) => rows.length > 0,
    );
    tables.push(...countedTables(own, plan));
    return tables.map((table) => ({ ...table, group: GUESTS[guest].title }));
  });
}

/** @param {Run[]} runs @param {import('./dom0.mjs').Plan} plan @param {Measure} measure */
function measured(runs, plan, { title, of, ratio = false, only = () => true }) {
  const [first = ''] = plan.peers;
  const rows = plan.workloads.filter(only).map((workload) => {
    const cells = plan.peers.map((peer) => {
      const mine = runs.filter((run) => run.peer === peer && run.workload === workload);
      if (mine.length === 0) return '-';
      const value = shown(figure(mine.map(of)));
      if (!ratio || peer === first) return value;
      return `${value} ${against(mine, runs, first, of)}`;
    });
    return [WORKLOADS[workload].title, ...cells];
  });
  const titles = ['work', ...plan.peers.map((peer) => PEERS[peer].title)];
  const beside = ratio ? `; × is the ratio to ${PEERS[first].title} of the same round` : '';
  return { title: `${title}${beside}`, titles, rows };
}

/**
 * @param {Run[]} mine @param {Run[]} runs @param {string} first
 * @param {(run: Run) => number} of
 */
function against(mine, runs, first, of) {
  const ratios = ratiosTo(first, mine, runs, of);
  if (ratios.length === 0) return '×?';
  const { median, min, max } = figure(ratios);
  return `**×${median.toFixed(2)}** [${min.toFixed(2)}–${max.toFixed(2)}]`;
}

/**
 * Of each run to the same work of the same round by `first`.
 * @param {string} first @param {Run[]} mine @param {Run[]} runs
 * @param {(run: Run) => number} of
 */
function ratiosTo(first, mine, runs, of) {
  return mine.flatMap((run) => {
    const same = runs.find(
      ({ peer, workload, round }) =>
        peer === first && workload === run.workload && round === run.round,
    );
    return same ? [of(run) / of(same)] : [];
  });
}

/**
 * Ratios to the first peer, a chart for speed and one for what dom0 pays.
 * @param {Run[]} runs
 * @param {import('./dom0.mjs').Plan} plan
 * @returns {import('../report/chart.mjs').Chart[]}
 */
export function rigCharts(runs, plan) {
  const [first = '', ...others] = plan.peers;
  const { title: base } = PEERS[first];
  const kinds = [
    { name: 'speed', title: 'Speed', of: speed },
    { name: 'dom0', title: 'dom0 CPU per I/O', of: perIo((run) => run.dom0) },
  ];
  return plan.guests.flatMap((guest) =>
    kinds.map(({ name, title, of }) => ({
      name: `${guest}-${name}`,
      title: `${title} against ${base}; ${GUESTS[guest].title}`,
      axis: `ratio to ${base}`,
      line: 1,
      series: others.map((peer) => PEERS[peer].title),
      bars: plan.workloads.flatMap((workload) =>
        others.flatMap((peer) => {
          const own = runs.filter((run) => run.guest === guest);
          const mine = own.filter((run) => run.peer === peer && run.workload === workload);
          const ratios = ratiosTo(first, mine, own, of);
          if (ratios.length === 0) return [];
          const { title: group } = WORKLOADS[workload];
          return [{ group, series: PEERS[peer].title, ...figure(ratios) }];
        }),
      ),
    })),
  );
}

/** @param {Run[]} runs @param {import('./dom0.mjs').Plan} plan */
function countedTables(runs, plan) {
  const peers = plan.peers.filter((peer) => PEERS[peer].daemon);
  return peers.map((peer) => {
    const rows = plan.workloads.map((workload) => {
      const mine = runs.filter((run) => run.peer === peer && run.workload === workload);
      const cells = Object.keys(COUNTED).map((name) =>
        mine.length === 0
          ? '-'
          : digits(figure(mine.map((run) => (run.counted[name] ?? 0) / run.ios)).median),
      );
      return [WORKLOADS[workload].title, ...cells];
    });
    const title = `${PEERS[peer].title}: counted, per I/O of the guest`;
    return { title, titles: ['work', ...Object.values(COUNTED)], rows };
  });
}

/** @param {Run} run */
function speed(run) {
  return run.ios / run.seconds; // an I/O of 1 MiB is a MiB
}

/** @param {(run: Run) => number} nanoseconds @returns {(run: Run) => number} µs */
function perIo(nanoseconds) {
  return (run) => nanoseconds(run) / run.ios / 1000;
}

/**
 * Takes off what a run costs without any I/O.
 * @param {Run[]} runs
 * @param {{ guest: string, dom0: number, domu: number }[]} nothing runs that did no I/O
 * @returns {Run[]}
 */
export function withoutOverhead(runs, nothing) {
  const of = (/** @type {string} */ guest, /** @type {'dom0' | 'domu'} */ what) => {
    const own = nothing.filter((run) => run.guest === guest).map((run) => run[what]);
    return own.length > 0 ? figure(own).median : 0;
  };
  return runs.map((run) => ({
    ...run,
    dom0: run.dom0 - of(run.guest, 'dom0'),
    domu: run.domu - of(run.guest, 'domu'),
  }));
}
