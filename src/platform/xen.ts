// SPDX-License-Identifier: Apache-2.0
// Real Xen: xenstored, and the addon on /dev/xen/gntdev and /dev/xen/evtchn.
import type { Config } from '../config.ts';
import { openXenstore } from '../xenstore/connection.ts';
import { readOwnDomid } from '../xenstore/own_domid.ts';
import { openEngine } from './open_engine.ts';
import type { Platform } from './platform.ts';

/** Throws, saying what is missing, on a machine that is not dom0 or a driver domain. */
export async function openXenPlatform(config: Config): Promise<Platform> {
  const xenstore = await openXenstore();
  try {
    const backendDomid = await readOwnDomid(xenstore);
    const datapath = openEngine(config, { platform: 'xen' });
    return {
      name: 'xen',
      backendDomid,
      xenstore,
      datapath,
      outlivesUs: true,
      close: async () => {
        datapath.close();
        await xenstore.close();
      },
    };
  } catch (error) {
    await xenstore.close();
    throw error;
  }
}
