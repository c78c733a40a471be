// SPDX-License-Identifier: Apache-2.0
// The daemon's process: starts everything in order, waits for a signal, stops everything.
import { mkdirSync } from 'node:fs';
import { type Config, loadConfig } from '../config.ts';
import { daemonHandlers } from '../control/handlers.ts';
import { controlSocketPath } from '../control/protocol.ts';
import { serveControl } from '../control/server.ts';
import { lockRuntimeDir } from '../control/socket_lock.ts';
import { startDaemon } from '../daemon.ts';
import { native, type PlatformKind } from '../datapath/binding.ts';
import { createLogger, type Logger } from '../log.ts';
import { openLoopbackPlatform } from '../platform/loopback.ts';
import type { Platform } from '../platform/platform.ts';
import { openXenPlatform } from '../platform/xen.ts';
import { packageVersion } from '../version.ts';
import { Undo } from './undo.ts';

export interface ServeOptions {
  config?: string;
  backend?: string[];
  platform: PlatformKind;
  runtimeDir?: string;
}

/** Resolves when a signal has stopped it; throws when it cannot start. */
export async function serve(options: ServeOptions): Promise<void> {
  const config = await loadConfig(options.config, {
    backends: options.backend,
    runtimeDir: options.runtimeDir,
  });
  const log = createLogger({ level: config.logLevel });
  // From now on: a signal that comes before all has started is not lost, nor anything left behind.
  const stopped = stopSignal();
  const service = await startService(config, options.platform, log);
  notifySystemd('READY=1');
  const { backends, runtimeDir } = config;
  const version = packageVersion();
  log.info({ version, platform: options.platform, backends, runtimeDir }, 'serving');
  const signal = await stopped;
  log.info({ signal }, config.closeOnStop ? 'closing the disks' : 'leaving the disks as they are');
  notifySystemd('STOPPING=1');
  await service.stop();
  log.info('stopped');
}

interface Service {
  stop(): Promise<void>;
}

/** Starts everything, in order; what has started is stopped again when the next does not. */
async function startService(config: Config, kind: PlatformKind, log: Logger): Promise<Service> {
  const undo = new Undo();
  try {
    mkdirSync(config.runtimeDir, { recursive: true, mode: 0o700 });
    const lock = await lockRuntimeDir(config.runtimeDir);
    undo.add(() => lock.release());
    const platform = await openPlatform(kind, config);
    undo.add(() => platform.close());
    const daemon = await startDaemon(config, platform, log);
    undo.add(() => daemon.stop());
    const handlers = daemonHandlers(daemon, platform, config);
    const control = await serveControl(controlSocketPath(config.runtimeDir), handlers, log);
    undo.add(() => control.close());
    return { stop: () => undo.run() };
  } catch (error) {
    // The first failure is the one to tell.
    await undo.run().catch(() => {});
    throw error;
  }
}

function openPlatform(kind: PlatformKind, config: Config): Promise<Platform> {
  return kind === 'xen' ? openXenPlatform(config) : openLoopbackPlatform(config);
}

/** The first one. Both have their default action again after it: a second ends it at once. */
function stopSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    const onSignal = (signal: NodeJS.Signals) => {
      process.off('SIGTERM', onSignal).off('SIGINT', onSignal);
      resolve(signal);
    };
    process.on('SIGTERM', onSignal).on('SIGINT', onSignal);
  });
}

function notifySystemd(state: string): void {
  // False where systemd did not start us.
  native.sdNotify(state);
}
