// SPDX-License-Identifier: Apache-2.0
// xenstored bounds what a domain other than dom0 may hold. The two xenstoreds have different words
// for it; ours is EQUOTA, and a sentence that says which bound it is and where it is raised.
import { XenstoreError } from './client.ts';
import { messageType } from './wire.ts';

interface Quota {
  /** As `xenstore-control quota` calls it. */
  readonly name: string;
  readonly what: string;
  /** What the C xenstored answers; oxenstored says EQUOTA to all. */
  readonly code: string;
}

const nodes: Quota = { name: 'nodes', what: 'nodes', code: 'ENOSPC' };

const quotas: ReadonlyMap<number, Quota> = new Map([
  [messageType.watch, { name: 'watches', what: 'watches', code: 'E2BIG' }],
  [
    messageType.transactionStart,
    { name: 'transactions', what: 'open transactions', code: 'ENOSPC' },
  ],
  [messageType.write, nodes],
  [messageType.mkdir, nodes],
  [messageType.setPermissions, nodes],
]);

/** The refusal of a request of this type, if it is for a quota. */
export function quotaError(type: number, code: string, what: string): XenstoreError | undefined {
  const quota = quotas.get(type);
  if (!quota || (code !== quota.code && code !== 'EQUOTA')) return undefined;
  return new XenstoreError(
    'EQUOTA',
    `xenstored refused to ${what} (${code}): this domain's quota of ${quota.what} is used up. ` +
      `In dom0: xenstore-control quota set ${quota.name} NUMBER, ` +
      'or the quota options of xenstored or oxenstored.conf',
  );
}
