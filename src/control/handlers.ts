// SPDX-License-Identifier: Apache-2.0
// The control socket's methods, over the daemon.
import type { Config } from '../config.ts';
import type { Daemon } from '../daemon.ts';
import { native } from '../datapath/binding.ts';
import type { Platform } from '../platform/platform.ts';
import { packageVersion } from '../version.ts';
import { PROTOCOL } from './protocol.ts';
import type { Handlers } from './server.ts';

export function daemonHandlers(daemon: Daemon, platform: Platform, config: Config): Handlers {
  return {
    version: async () => ({
      ringdisk: packageVersion(),
      ...native.version(),
      protocol: PROTOCOL,
      platform: platform.name,
      backends: [...config.backends],
      pid: process.pid,
    }),
  };
}
