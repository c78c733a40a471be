// SPDX-License-Identifier: Apache-2.0
// THE SEAM of the control plane: a xenstore and a data path. daemon.ts receives one Platform;
// nothing else asks which it is.
import type { Datapath } from '../datapath/datapath.ts';
import type { XenstoreClient } from '../xenstore/client.ts';

export interface Platform {
  readonly name: 'xen' | 'loopback';
  /** The domain this daemon runs in: 0, or the driver domain's id. */
  readonly backendDomid: number;
  readonly xenstore: XenstoreClient;
  readonly datapath: Datapath;
  /** Whether guests live on when this process ends, so that another one can serve them. */
  readonly outlivesUs: boolean;
  close(): Promise<void>;
}
