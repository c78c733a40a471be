// SPDX-License-Identifier: Apache-2.0
// Serves every VBD of the configured kinds on one platform: wires discovery and VBDs, and owns the
// order of start and stop. The platform is the caller's, who closes it after stop().
import type { Logger } from 'pino';
import type { Config } from './config.ts';
import type { EngineCounters } from './datapath/binding.ts';
import { RingdiskError } from './errors.ts';
import { vbdLogger } from './log.ts';
import type { Platform } from './platform/platform.ts';
import { defaultTiming, type Timing, type VbdServices } from './vbd/device.ts';
import { Discovery } from './vbd/discover.ts';
import { type VbdId, vbdName } from './vbd/info.ts';
import { Vbd } from './vbd/vbd.ts';

/** Resolves when every VBD that is there already has been found. */
export async function startDaemon(
  config: Config,
  platform: Platform,
  log: Logger,
  timing: Timing = defaultTiming,
): Promise<Daemon> {
  const daemon = new Daemon(config, platform, log, timing);
  try {
    await daemon.start();
  } catch (error) {
    await daemon.stop({ leave: true });
    throw error;
  }
  return daemon;
}

export class Daemon {
  readonly #config: Config;
  readonly #platform: Platform;
  readonly #log: Logger;
  readonly #services: VbdServices;
  readonly #discovery: Discovery;
  readonly #vbds = new Map<string, Vbd>();
  #stopped: Promise<void> | undefined;

  constructor(config: Config, platform: Platform, log: Logger, timing: Timing = defaultTiming) {
    this.#config = config;
    this.#platform = platform;
    this.#log = log;
    const { xenstore, datapath, backendDomid } = platform;
    this.#services = { xenstore, datapath, config, backendDomid, timing };
    this.#discovery = new Discovery(xenstore, backendDomid, {
      changed: (id) => this.#changed(id),
      kindChanged: (kind) => this.#kindChanged(kind),
      failed: (kind, error) => log.error({ kind, err: error }, 'cannot list the devices'),
    });
  }

  /** See startDaemon(). */
  async start(): Promise<void> {
    await this.#discovery.start(this.#config.backends);
  }

  /**
   * Takes no more VBDs and ends the ones there are. `leave` drains connected ones and leaves them
   * to the next daemon instead of closing them; by default the configuration's `closeOnStop`
   * decides. Resolves when the kernel has let go of every guest's memory. Safe to call twice.
   */
  stop(options: { leave?: boolean } = {}): Promise<void> {
    const leave = options.leave ?? !this.#config.closeOnStop;
    this.#stopped ??= this.#stop(leave);
    return this.#stopped;
  }

  async #stop(leave: boolean): Promise<void> {
    // Its watches stay until the end: toolstacks and frontends still have a say in a close.
    await Promise.all([...this.#vbds.values()].map((vbd) => vbd.stop({ leave })));
    await this.#discovery.stop();
    this.#vbds.clear();
  }

  /** In order of kind, domain and device. */
  vbds(): Vbd[] {
    const byName = (a: Vbd, b: Vbd) =>
      a.name.localeCompare(b.name, 'en', { numeric: true, sensitivity: 'variant' });
    return [...this.#vbds.values()].filter((vbd) => vbd.isPresent).sort(byName);
  }

  /**
   * By "vbd3/5/51712", or "5/51712" or "5/xvda" where that is one VBD only. Throws VBD_UNKNOWN with
   * a sentence that helps.
   */
  find(name: string): Vbd {
    const matches = this.vbds().filter((vbd) => namesOf(vbd).includes(name));
    const [match] = matches;
    if (match && matches.length === 1) return match;
    const shown = JSON.stringify(name.slice(0, 100));
    if (matches.length > 1) {
      const names = matches.map((vbd) => vbd.name).join(', ');
      throw new RingdiskError('VBD_UNKNOWN', `${shown} could be any of ${names}.`);
    }
    throw new RingdiskError(
      'VBD_UNKNOWN',
      `There is no VBD ${shown}; name it as the list does, or as DOMID/DEVID or DOMID/VDEV.`,
    );
  }

  /** Of the whole data path. */
  counters(): EngineCounters {
    return this.#platform.datapath.counters();
  }

  #changed(id: VbdId): void {
    const name = vbdName(id);
    const known = this.#vbds.get(name);
    if (known) {
      known.mark();
      return;
    }
    if (this.#stopped) return;
    const vbd = new Vbd(id, this.#services, vbdLogger(this.#log, name), () => {
      this.#vbds.delete(name);
    });
    this.#vbds.set(name, vbd);
  }

  #kindChanged(kind: string): void {
    for (const vbd of this.#vbds.values()) if (vbd.id.kind === kind) vbd.mark();
  }
}

function namesOf(vbd: Vbd): string[] {
  const { domid, devid } = vbd.id;
  const { vdev } = vbd.info();
  const names = [vbd.name, `${domid}/${devid}`];
  return vdev === undefined ? names : [...names, `${domid}/${vdev}`];
}
