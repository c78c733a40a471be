// SPDX-License-Identifier: Apache-2.0
// A daemon on a memory store and a fake data path, with the toolstack and the frontend played by
// the test: what the control plane's unit tests start from.
import { type Logger, pino } from 'pino';
import { type ConfigOverrides, parseConfig } from '../../src/config.ts';
import { type Daemon, startDaemon } from '../../src/daemon.ts';
import type { Timing } from '../../src/vbd/device.ts';
import type { VbdId } from '../../src/vbd/id.ts';
import type { OurState } from '../../src/vbd/states.ts';
import type { Vbd } from '../../src/vbd/vbd.ts';
import type { XenstoreClient } from '../../src/xenstore/client.ts';
import { MemoryStore, type StoreQuotas } from '../../src/xenstore/memory_store.ts';
import {
  backendDir,
  backendErrorNode,
  backendKindDir,
  domainPath,
  frontendDir,
} from '../../src/xenstore/paths.ts';
import { FakeDatapath } from './fake_datapath.ts';
import { temporaryFolder } from './temporary_folder.ts';

/** For random lives, in which all patience runs out again and again. */
export const hastyTiming: Timing = {
  closeMs: 20,
  askMs: 20,
  letGoMs: 5,
  retryMs: 5,
  takeOverMs: 5,
  openMs: 10,
  scriptMs: 5,
  again: { firstMs: 2, mostMs: 10, leastMs: 1 },
};

const quickTiming: Timing = {
  closeMs: 150,
  askMs: 200,
  letGoMs: 60,
  retryMs: 20,
  takeOverMs: 100,
  openMs: 250,
  scriptMs: 80,
  again: { firstMs: 20, mostMs: 100, leastMs: 5 },
};

export type Nodes = Record<string, string | undefined>;

/** What xl writes, without the nodes nobody reads. */
const toolstackNodes: Nodes = {
  online: '1',
  state: '1',
  dev: 'xvda',
  type: 'tap',
  mode: 'w',
  params: 'aio:null:1G',
  'device-type': 'disk',
  'discard-enable': '1',
};

/** What blkfront writes for one queue of one page. */
export const blkfrontNodes: Nodes = {
  'ring-ref': '8',
  'event-channel': '5',
  protocol: 'x86_64-abi',
  'feature-persistent': '1',
};

export class ControlPlane {
  /** Kept over restarts of the daemon. */
  readonly runtimeDir = temporaryFolder();
  readonly store: MemoryStore;
  readonly xenstore: XenstoreClient;
  readonly datapath = new FakeDatapath();
  readonly lines: { level: number; msg: string; [field: string]: unknown }[] = [];
  readonly backendDomid: number;
  #process = 0;
  #daemon: Daemon | undefined;
  /** The daemon's own connection. */
  daemonXenstore: XenstoreClient;

  /** `backendDomid`: not 0 is a driver domain, which may do what its permissions say. */
  constructor(backendDomid = 0, quotas: Partial<StoreQuotas> = {}) {
    this.backendDomid = backendDomid;
    this.store = new MemoryStore(quotas);
    this.xenstore = this.store.client(0);
    this.daemonXenstore = this.store.client(backendDomid);
  }

  get isStarted(): boolean {
    return this.#daemon !== undefined;
  }

  get daemon(): Daemon {
    if (!this.#daemon) throw new Error('no daemon was started');
    return this.#daemon;
  }

  async start(
    overrides: ConfigOverrides = {},
    timing: Partial<Timing> = {},
    force = false,
  ): Promise<Daemon> {
    const { store, backendDomid } = this;
    const datapath = this.datapath.open();
    if (backendDomid !== 0) await this.#giveHome();
    const xenstore = store.client(backendDomid);
    this.daemonXenstore = xenstore;
    const platform = {
      name: 'loopback',
      backendDomid,
      xenstore,
      datapath,
      outlivesUs: true,
    } as const;
    const close = () => xenstore.close();
    const config = parseConfig({ reactors: 1, runtimeDir: this.runtimeDir }, overrides);
    const options = { timing: { ...quickTiming, ...timing }, force };
    this.#daemon = await startDaemon(config, { ...platform, close }, this.#newLog(), options);
    return this.#daemon;
  }

  /** As SIGKILL does it; the next start() is another process. */
  async kill(): Promise<void> {
    this.#process++;
    this.daemon.leave();
    this.datapath.kill();
    await this.daemonXenstore.close();
  }

  /** Silent once its process was killed. */
  #newLog(): Logger {
    const process = this.#process;
    const write = (line: string) => {
      if (process === this.#process) this.lines.push(JSON.parse(line));
    };
    return pino({ level: 'trace' }, { write });
  }

  /** Every device is removed and the daemon stops: nothing may be held after it. */
  async end(): Promise<void> {
    for (const kind of ['vbd3', 'qdisk']) {
      await this.xenstore.remove(backendKindDir(this.backendDomid, kind));
    }
    await this.daemon.stop();
  }

  /** As a toolstack makes the home of a domain. */
  async #giveHome(): Promise<void> {
    const home = domainPath(this.backendDomid);
    await this.xenstore.mkdir(home);
    await this.xenstore.setPermissions(home, [{ domid: this.backendDomid, access: 'n' }]);
  }

  /** Both directories, as a toolstack does it: in one transaction. */
  async attach(nodes: Nodes = {}, id: Partial<VbdId> = {}): Promise<Disk> {
    const disk = new Disk(this, { kind: 'vbd3', domid: 7, devid: 51712, ...id });
    const frontend = { frontend: disk.frontend, 'frontend-id': String(disk.id.domid) };
    const { backendDomid } = this;
    await this.xenstore.transaction(async (requests) => {
      for (const [directory, owner, reader] of [
        [disk.backend, backendDomid, disk.id.domid],
        [disk.frontend, disk.id.domid, backendDomid],
      ] as const) {
        await requests.mkdir(directory);
        await requests.setPermissions(directory, [
          { domid: owner, access: 'n' },
          { domid: reader, access: 'r' },
        ]);
      }
      await writeNodes(requests, disk.backend, { ...toolstackNodes, ...frontend, ...nodes });
      await writeNodes(requests, disk.frontend, { backend: disk.backend, state: '1' });
    });
    return disk;
  }
}

/** One VBD's two directories, and what a test does with them. */
export class Disk {
  readonly id: VbdId;
  readonly backend: string;
  readonly frontend: string;
  readonly errorNode: string;
  readonly #plane: ControlPlane;

  constructor(plane: ControlPlane, id: VbdId) {
    this.#plane = plane;
    this.id = id;
    this.backend = backendDir(plane.backendDomid, id);
    this.frontend = frontendDir(id.domid, id.devid);
    this.errorNode = backendErrorNode(plane.backendDomid, id);
  }

  get vbd(): Vbd {
    return this.#plane.daemon.find(`${this.id.kind}/${this.id.domid}/${this.id.devid}`);
  }

  read(node: string): Promise<string | undefined> {
    return this.#plane.xenstore.read(`${this.backend}/${node}`);
  }

  readError(): Promise<string | undefined> {
    return this.#plane.xenstore.read(this.errorNode);
  }

  writeBackend(nodes: Nodes): Promise<void> {
    return this.#plane.xenstore.transaction((requests) =>
      writeNodes(requests, this.backend, nodes),
    );
  }

  writeFrontend(nodes: Nodes): Promise<void> {
    return this.#plane.xenstore.transaction((requests) =>
      writeNodes(requests, this.frontend, nodes),
    );
  }

  /** As blkfront does: waits for the offer, writes its nodes and Initialised, then Connected. */
  async connect(nodes: Nodes = blkfrontNodes): Promise<void> {
    await this.expectState('2');
    await this.writeFrontend({ ...nodes, state: '3' });
    await this.expectState('4');
    await this.writeFrontend({ state: '4' });
  }

  /** Waits until the daemon has found the disk and is in that state with it. */
  async expectOurState(state: OurState): Promise<void> {
    const { kind, domid, devid } = this.id;
    const name = `${kind}/${domid}/${devid}`;
    const found = () =>
      this.#plane.daemon
        .vbds()
        .find((vbd) => vbd.name === name)
        ?.info().state;
    await eventually(() => found() === state, state, found);
  }

  async expectState(state: string): Promise<void> {
    await eventually(
      async () => (await this.read('state')) === state,
      `state ${state}`,
      () => this.read('state'),
    );
  }

  /** As libxl does. */
  remove(): Promise<void> {
    return this.writeBackend({ online: '0', state: '5' });
  }

  async deleteBackend(): Promise<void> {
    await this.#plane.xenstore.remove(this.backend);
  }

  async deleteFrontend(): Promise<void> {
    await this.#plane.xenstore.remove(this.frontend);
  }
}

async function writeNodes(
  requests: Pick<XenstoreClient, 'write' | 'remove'>,
  directory: string,
  nodes: Nodes,
): Promise<void> {
  for (const [node, value] of Object.entries(nodes)) {
    if (value === undefined) await requests.remove(`${directory}/${node}`);
    else await requests.write(`${directory}/${node}`, value);
  }
}

/** Waits until `condition` holds; fails after two seconds, saying what was there instead. */
export async function eventually(
  condition: () => boolean | Promise<boolean>,
  what: string,
  instead: () => unknown = () => 'not',
): Promise<void> {
  const deadline = performance.now() + 2000;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`expected ${what}, got ${await instead()}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** Long enough for every reconcile that is going to happen. */
export function quiet(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 40));
}
