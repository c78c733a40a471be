// SPDX-License-Identifier: Apache-2.0
// The daemon's process: starts everything in order, waits for the end, then closes or leaves the
// disks.
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { type Config, loadConfig, RUNTIME_DIR, usualConfigFile } from '../config.ts';
import { daemonHandlers, whenStarted } from '../control/handlers.ts';
import { lockKinds, lockRuntimeDir } from '../control/lock.ts';
import { controlSocketPath, type ServeArguments } from '../control/protocol.ts';
import { makeRuntimeDir } from '../control/runtime_dir.ts';
import { serveControl } from '../control/server.ts';
import { Daemon } from '../daemon.ts';
import { native, type PlatformKind } from '../datapath/binding.ts';
import { createLogger, type Logger } from '../log.ts';
import { findLoopbackPlatform } from '../platform/loopback.ts';
import type { Platform } from '../platform/platform.ts';
import { openXenPlatform } from '../platform/xen.ts';
import { crashNotePath } from '../vbd/record.ts';
import { packageVersion } from '../version.ts';
import { EXIT_CODE } from './exit_code.ts';
import { memlockBytes } from './host_facts.ts';
import { findOtherBackends, kindsInUse, refuseTakenKinds } from './other_backends.ts';
import { describeCapabilities, readPrivileges } from './privileges.ts';
import { startWatchdog } from './watchdog.ts';

/** The same for all daemons of a host, wherever their own directories are. Root's alone. */
const HOST_LOCKS = RUNTIME_DIR;

export interface ServeOptions {
  config?: string | undefined;
  backend?: string[] | undefined;
  /** Also what is most likely served by somebody else. */
  force?: boolean | undefined;
  platform: PlatformKind;
  runtimeDir?: string | undefined;
}

/** Resolves when it has closed its disks, ends the process when it leaves them; else throws. */
export async function serve(options: ServeOptions): Promise<void> {
  const config = await loadConfig(options.config ?? usualConfigFile(options.platform), {
    backends: options.backend,
    runtimeDir: options.runtimeDir,
    force: options.force,
  });
  if (options.platform === 'xen' && !config.force) {
    // Guests that wait for this daemon are its own, whoever has come meanwhile.
    const inUse = kindsInUse(config.runtimeDir);
    const kinds = config.backends.filter((kind) => !inUse.includes(kind));
    refuseTakenKinds(kinds, findOtherBackends());
  }
  const log = createLogger({ level: config.logLevel });
  // From now on: a signal that comes before all has started is not lost, nor anything left behind.
  const ending = new Ending();
  const service = await startService(config, options, log, ending);
  ending.managed = notifySystemd('READY=1');
  startWatchdog(notifySystemd);
  const { backends, runtimeDir } = config;
  const version = packageVersion();
  const capabilities = describeCapabilities(readPrivileges());
  const { platform } = options;
  log.info({ version, platform, backends, runtimeDir, capabilities }, 'serving');
  warnOfMemoryLimit(config, log);
  const reason = await ending.begun;
  const leaves = service.guestsOutliveUs && (reason === 'handover' || !config.closeOnStop);
  log.info({ reason }, leaves ? 'leaving the disks as they are' : 'closing the disks');
  notifySystemd('STOPPING=1');
  const isClosed = leaves ? await service.leave().then(() => false) : await service.close();
  log.info(leaves ? 'left' : 'stopped');
  // The data path goes on until the process ends, and would keep it alive.
  if (!isClosed) process.exit(EXIT_CODE.ok);
}

interface Service {
  readonly guestsOutliveUs: boolean;
  /** Closes the disks, then everything else. False: some storage hangs, the kernel has the rest. */
  close(): Promise<boolean>;
  /** Touches no disk: the next daemon takes them over. */
  leave(): Promise<void>;
}

/**
 * Starts everything, in order. All that can fail comes before the first disk is taken over; and if
 * something fails then, the disks are left as they are: their guests wait for the next start.
 */
async function startService(
  config: Config,
  options: ServeOptions,
  log: Logger,
  ending: Ending,
): Promise<Service> {
  makeRuntimeDir(config.runtimeDir);
  await lockRuntimeDir(config.runtimeDir);
  noteCrashes(crashNotePath(config.runtimeDir));
  if (options.platform === 'xen') {
    makeRuntimeDir(HOST_LOCKS);
    await lockKinds(HOST_LOCKS, config.backends);
  }
  const platform = await openPlatform(options.platform, config);
  const daemon = new Daemon(config, platform, log, { force: config.force });
  const control = await listen(
    daemon,
    platform,
    config,
    new Handover(options, config, ending),
    log,
  );
  try {
    await control.start();
  } catch (error) {
    daemon.handOver();
    throw error;
  }
  return {
    guestsOutliveUs: platform.outlivesUs,
    close: async () => {
      await control.close();
      await daemon.stop();
      const vbds = daemon.hanging;
      if (vbds.length > 0) {
        log.warn(
          { vbds },
          'their storage hangs: left to the kernel, which still has I/O of theirs',
        );
        return false;
      }
      await platform.close();
      return true;
    },
    leave: async () => {
      daemon.handOver();
      await control.close();
    },
  };
}

/** The control socket comes first: a daemon that cannot be reached must not take a disk over. */
async function listen(
  daemon: Daemon,
  platform: Platform,
  config: Config,
  handover: Handover,
  log: Logger,
): Promise<{ start(): Promise<void>; close(): Promise<void> }> {
  let begin: (started: Promise<void>) => void = () => {};
  const started = new Promise<void>((resolve) => {
    begin = resolve;
  });
  const handlers = whenStarted(daemonHandlers(daemon, platform, config, handover), started);
  try {
    const socket = await serveControl(controlSocketPath(config.runtimeDir), handlers, log);
    const start = () => {
      const starting = daemon.start();
      begin(starting);
      return starting;
    };
    return { start, close: () => socket.close() };
  } catch (error) {
    // The first failure is the one to tell.
    await platform.close().catch(() => {});
    throw error;
  }
}

function openPlatform(kind: PlatformKind, config: Config): Promise<Platform> {
  return kind === 'xen' ? openXenPlatform(config) : findLoopbackPlatform(config);
}

/** What ends the daemon: the first of what may. */
class Ending {
  /** systemd starts the next one. */
  managed = false;
  begin: (reason: string) => void = () => {};
  readonly begun = new Promise<string>((resolve) => {
    // Both signals have their default action again after the first: a second ends it at once.
    const onSignal = (signal: NodeJS.Signals) => this.begin(signal);
    this.begin = (reason) => {
      process.off('SIGTERM', onSignal).off('SIGINT', onSignal);
      resolve(reason);
    };
    process.on('SIGTERM', onSignal).on('SIGINT', onSignal);
  });
}

class Handover {
  readonly serve: ServeArguments;
  readonly #ending: Ending;

  constructor(options: ServeOptions, config: Config, ending: Ending) {
    this.#ending = ending;
    this.serve = {
      platform: options.platform,
      runtimeDir: path.resolve(config.runtimeDir),
      ...(options.config !== undefined && { config: path.resolve(options.config) }),
      ...(options.backend && { backend: options.backend }),
      ...(options.force && { force: true }),
    };
  }

  get managed(): boolean {
    return this.#ending.managed;
  }

  begin(): void {
    // The answer goes out first.
    setImmediate(() => this.#ending.begin('handover'));
  }
}

/** For the next daemon: see take_overs.ts. */
function noteCrashes(file: string): void {
  native.noteCrashes(file);
  process.on('uncaughtExceptionMonitor', () => writeFileSync(file, ''));
}

/** Everything works, but nobody would guess why it is slower. */
function warnOfMemoryLimit({ reactors, bouncePoolBytes }: Config, log: Logger): void {
  const wantedBytes = reactors * bouncePoolBytes;
  const limitBytes = memlockBytes();
  if (limitBytes >= wantedBytes) return;
  const message = 'memory cannot be registered with io_uring: each I/O costs more CPU';
  log.warn({ limitBytes, wantedBytes, remedy: 'LimitMEMLOCK=infinity in the unit' }, message);
}

/** False where systemd did not start us. */
function notifySystemd(state: string): boolean {
  return native.sdNotify(state);
}
