// SPDX-License-Identifier: Apache-2.0
// A loopback machine that outlives its daemon: xenstore, toolstack and guests are in the test's
// process, the daemon is a child that may be killed and started again at any moment.
import { rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { native } from '../../src/datapath/binding.ts';
import { loopbackMachineDir, loopbackXenstoreSocket } from '../../src/platform/loopback.ts';
import { LoopbackFrontend } from '../../src/platform/loopback_frontend.ts';
import { createVbd, detachVbd, type VbdPaths } from '../../src/platform/loopback_toolstack.ts';
import type { XenstoreClient } from '../../src/xenstore/client.ts';
import { MemoryXenstore } from '../../src/xenstore/memory_client.ts';
import { MemorySession, MemoryStore } from '../../src/xenstore/memory_store.ts';
import { serveXenstore, type XenstoreServer } from '../../src/xenstore/server.ts';
import { killHelpers } from './images.ts';
import { sparseFile } from './loopback_machine.ts';
import { type Ended, ServeProcess, start, startServe, untilServing } from './serve_process.ts';
import { temporaryFolder } from './temporary_folder.ts';

export interface RestartGuest {
  readonly paths: VbdPaths;
  readonly frontend: LoopbackFrontend;
}

export class RestartMachine {
  readonly runtimeDir = temporaryFolder();
  readonly #store = new MemoryStore();
  /** The toolstack's. */
  readonly xenstore: XenstoreClient = this.#client(0);
  readonly #guests: RestartGuest[] = [];
  #server: XenstoreServer | undefined;
  #daemon: ServeProcess | undefined;

  /** `args`: of the daemon. */
  static async start(...args: string[]): Promise<RestartMachine> {
    const machine = new RestartMachine();
    await machine.bringBackXenstore();
    await machine.startDaemon(...args);
    return machine;
  }

  /** As if xenstored had died; the guests in this process go on. */
  async loseXenstore(): Promise<void> {
    await this.#server?.close();
  }

  async bringBackXenstore(): Promise<void> {
    const socket = loopbackXenstoreSocket(this.runtimeDir);
    this.#server = await serveXenstore(this.#store, { path: socket, domid: 0 });
  }

  get daemon(): ServeProcess {
    if (!this.#daemon) throw new Error('no daemon runs');
    return this.#daemon;
  }

  /** `ringdisk upgrade`, whose process is the daemon from then on; says how the old one ended. */
  async upgradeDaemon(): Promise<Ended> {
    const old = this.daemon;
    const upgrade = start(['upgrade', '--runtime-dir', this.runtimeDir]);
    this.#daemon = new ServeProcess(this.runtimeDir, upgrade);
    await untilServing(upgrade);
    return old.started.ended;
  }

  async startDaemon(...args: string[]): Promise<void> {
    this.#daemon = await ServeProcess.startIn(this.runtimeDir, ...args);
  }

  /** A daemon that is killed so soon after its start, whatever it is doing then. */
  async startAndKill(afterMs: number): Promise<void> {
    const { child, ended } = startServe(this.runtimeDir);
    await sleep(afterMs);
    child.kill('SIGKILL');
    await ended;
    this.#forgetBackend();
  }

  /** Waits until the daemon has died by itself. */
  async died(): Promise<Ended> {
    const ended = await this.daemon.started.ended;
    this.#forgetBackend();
    return ended;
  }

  /** Starts daemons, as systemd does, until one lives for `ms`; says how many did not. */
  async startUntilOneLives(ms: number, deathsMax: number): Promise<number> {
    for (let deaths = 0; deaths <= deathsMax; deaths++) {
      const started = startServe(this.runtimeDir);
      this.#daemon = new ServeProcess(this.runtimeDir, started);
      const lives = sleep(ms, true);
      if (await Promise.race([lives, started.ended.then(() => false)])) return deaths;
      this.#forgetBackend();
    }
    throw new Error(`more than ${deathsMax} daemons died`);
  }

  /** Ends the daemon in its own way or with SIGKILL; the guests stay. */
  async stopDaemon(signal: NodeJS.Signals): Promise<Ended> {
    const ended = await this.daemon.stop(signal);
    this.#forgetBackend();
    return ended;
  }

  async killAndStartDaemon(): Promise<void> {
    await this.stopDaemon('SIGKILL');
    await this.startDaemon();
  }

  file(...names: string[]): string {
    return path.join(this.runtimeDir, ...names);
  }

  /** A guest whose disk is a sparse file, or `params`; not connected yet. */
  async plug(bytes: number, params?: string, mode: 'r' | 'w' = 'w'): Promise<RestartGuest> {
    const domid = this.#guests.length + 1;
    const target = params ?? `aio:${sparseFile(this.file(`disk${domid}.img`), bytes)}`;
    const spec = { domid, devid: 51712, vdev: 'xvda', params: target, mode };
    return this.guestOf(await createVbd(this.xenstore, spec));
  }

  /** Of a domain whose disk's nodes somebody else has written. */
  guestOf<Paths extends VbdPaths>(paths: Paths): RestartGuest & { readonly paths: Paths } {
    const { domid } = paths;
    const machineDir = loopbackMachineDir(this.runtimeDir);
    const frontend = new LoopbackFrontend(native, machineDir, this.#client(domid), paths);
    const guest = { paths, frontend };
    this.#guests.push(guest);
    return guest;
  }

  /** As by xl, and waits until the backend has let go. */
  async unplug({ paths, frontend }: RestartGuest): Promise<void> {
    await Promise.all([detachVbd(this.xenstore, paths), frontend.closedByBackend()]);
  }

  /** What `ringdisk show --json` says. */
  async show({ paths }: RestartGuest): Promise<Record<string, unknown>> {
    const { stdout, stderr } = await this.daemon.cli('show', `${paths.domid}/xvda`, '--json');
    const { result } = JSON.parse(stdout || `{"error":${JSON.stringify(stderr)}}`);
    return result.vbd;
  }

  async close(): Promise<void> {
    await this.#daemon?.stop('SIGKILL');
    killHelpers(this.runtimeDir);
    for (const { frontend } of this.#guests) {
      frontend.cancel();
      await frontend.close();
    }
    await this.#server?.close();
    rmSync(this.runtimeDir, { recursive: true, force: true });
  }

  /** As Xen would. */
  #forgetBackend(): void {
    for (const { frontend } of this.#guests) frontend.backendDied();
  }

  #client(domid: number): XenstoreClient {
    return new MemoryXenstore(new MemorySession(this.#store, domid));
  }
}
