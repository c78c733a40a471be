// SPDX-License-Identifier: Apache-2.0
import type { VbdCounters } from '../../src/datapath/counters.ts';

/** A VBD's counters: zero, but for those given. */
export function someCounters(given: Partial<VbdCounters> = {}): VbdCounters {
  return {
    reads: 0,
    writes: 0,
    flushes: 0,
    barriers: 0,
    discards: 0,
    readBytes: 0,
    writeBytes: 0,
    discardBytes: 0,
    ioErrors: 0,
    rejected: 0,
    unsupported: 0,
    indirect: 0,
    notificationsReceived: 0,
    notificationsSent: 0,
    polls: 0,
    takeBatches: 0,
    taken: 0,
    batches: 0,
    answered: 0,
    grantMaps: 0,
    grantUnmaps: 0,
    grantCopies: 0,
    copiedBytes: 0,
    readModifyWrites: 0,
    retries: 0,
    replayed: 0,
    redelivered: 0,
    inFlight: 0,
    mappedPages: 0,
    bounceBytes: 0,
    brokenQueues: 0,
    waitingForTokens: 0,
    ...given,
  };
}
