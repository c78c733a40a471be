// SPDX-License-Identifier: Apache-2.0
// What the data path counts and measures, as it comes over the native boundary.

/** Counters since connect, summed over the VBD's queues; gauges are marked. */
export interface VbdCounters {
  reads: number;
  writes: number;
  flushes: number;
  barriers: number;
  discards: number;
  readBytes: number;
  writeBytes: number;
  discardBytes: number;
  /** Answered with BLKIF_RSP_ERROR because the target failed. */
  ioErrors: number;
  /** Answered with an error because the guest's request was not valid. */
  rejected: number;
  /** Answered with BLKIF_RSP_EOPNOTSUPP. */
  unsupported: number;
  indirect: number;
  notificationsReceived: number;
  notificationsSent: number;
  polls: number;
  /** Polls that took requests, and how many; publishes of answers, and how many. */
  takeBatches: number;
  taken: number;
  batches: number;
  answered: number;
  grantMaps: number;
  grantUnmaps: number;
  grantCopies: number;
  copiedBytes: number;
  readModifyWrites: number;
  /** Tries after a failure: of flushes, and with onError stop of everything. */
  retries: number;
  /** Of a process that died: requests carried out again, and answers shown that it could not. */
  replayed: number;
  redelivered: number;
  /** Gauges. */
  inFlight: number;
  mappedPages: number;
  bounceBytes: number;
  brokenQueues: number;
  /** Requests that have been taken and must not begin yet: there are limits. */
  waitingForTokens: number;
}

/** Latencies in microseconds, counted in buckets that are at most 1/32 wide. */
export interface LatencyHistogram {
  count: number;
  sumUs: number;
  maxUs: number;
  /** Those that count anything, ascending: the largest latency that falls into it, and how many. */
  buckets: [upToUs: number, count: number][];
}

/** tokens: the part of all others that requests waited where there are limits, and they had to. */
export type LatencyOperation = 'read' | 'write' | 'barrier' | 'flush' | 'discard' | 'tokens';

/**
 * From when a request was first seen in the ring until its answer was shown, since connect, all
 * queues together. Rejected requests are not in it, nor those of a process that died.
 */
export type VbdLatency = Record<LatencyOperation, LatencyHistogram>;

export interface EngineCounters {
  /** Gauges over the whole process: both are 0 when no VBD is connected. */
  mappedPages: number;
  boundPorts: number;
  /**
   * System calls of the data path: uringEnters, grantCalls (map, unmap, copy), eventReads and
   * eventUnmasks here (0 on Xen, where io_uring does both), and notificationsSent of VBDs.
   */
  reactors: {
    sleeps: number;
    wakeups: number;
    uringEnters: number;
    submissions: number;
    grantCalls: number;
    eventReads: number;
    eventUnmasks: number;
    bounceBytes: number;
  }[];
}
