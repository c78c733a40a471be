// SPDX-License-Identifier: Apache-2.0
import type { Logger } from '../log.ts';
import type { XenstoreClient } from './client.ts';

/** Says when xenstored goes away and when it is back. */
export function logLink(xenstore: XenstoreClient, log: Logger): void {
  let since = Date.now();
  xenstore.onLink((loss) => {
    if (loss) {
      since = loss.since.getTime();
      const message =
        'xenstored is lost: disks go on, but none is attached, detached or reconnected';
      log.error({ error: loss.reason }, message);
    } else {
      log.info({ ms: Date.now() - since }, 'xenstored is back');
    }
  });
}
