// SPDX-License-Identifier: Apache-2.0
// A host as XAPI's storage daemon sees it: both plugin folders with the real executables, behind
// them SMAPI's socket over volumes that are files, in the test's process.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { createLogger } from '../../src/log.ts';
import { layOutPlugins } from '../../src/smapi/layout.ts';
import type { SmapiServer } from '../../src/smapi/server.ts';
import { type MetricsPlaces, startSmapi } from '../../src/smapi/smapi.ts';
import { smapiSocketPath } from '../../src/smapi/smapi_socket.ts';
import { FileVolumes } from './file_volumes.ts';
import { type Ended, follow } from './serve_process.ts';
import { temporaryFolder } from './temporary_folder.ts';

export interface SmapiFailure {
  code: string;
  params: string[];
  backtrace: { error: string; files: string[]; lines: number[] };
}

export class SmapiHost {
  readonly folder = temporaryFolder();
  readonly runtimeDir = path.join(this.folder, 'run');
  readonly root = path.join(this.folder, 'xapi-storage-script');
  readonly volumes = new FileVolumes(this.folder);
  readonly #daemonRuntimeDir: string;
  readonly #metrics: MetricsPlaces;
  #server: SmapiServer | undefined;

  /** `daemonRuntimeDir`: of the daemon that serves the disks, where one runs. */
  static async start(daemonRuntimeDir?: string, metrics: MetricsPlaces = {}): Promise<SmapiHost> {
    const host = new SmapiHost(daemonRuntimeDir, metrics);
    mkdirSync(host.runtimeDir);
    layOutPlugins(host.root, smapiSocketPath(host.runtimeDir));
    await host.startManager();
    return host;
  }

  private constructor(daemonRuntimeDir: string | undefined, metrics: MetricsPlaces) {
    this.#daemonRuntimeDir = daemonRuntimeDir ?? path.join(this.folder, 'none');
    const folder = path.join(this.folder, 'metrics');
    const rrddSocket = path.join(this.folder, 'xcp-rrdd');
    this.#metrics = { folder, rrddSocket, ...metrics };
  }

  async startManager(): Promise<void> {
    const log = createLogger({ level: process.env['TEST_LOG'] ? 'debug' : 'silent' });
    this.#server = await startSmapi({
      manager: this.volumes.asManager(),
      runtimeDir: this.runtimeDir,
      daemonRuntimeDir: this.#daemonRuntimeDir,
      metrics: this.#metrics,
      log,
    });
  }

  async stopManager(): Promise<void> {
    await this.#server?.close();
  }

  script(method: string): string {
    const isDatapath = method.startsWith('Data');
    const plugin = isDatapath ? 'datapath/ringdisk' : 'volume/org.xen.xapi.storage.ringdisk';
    return path.join(this.root, plugin, method);
  }

  /** As XAPI's daemon runs it. */
  run(method: string, params: object, env: NodeJS.ProcessEnv = {}): Promise<Ended> {
    return runScript(this.script(method), ['--json'], JSON.stringify(params), env);
  }

  // biome-ignore lint/suspicious/noExplicitAny: what is read of it is up to each test
  async call(method: string, params: object): Promise<any> {
    const { status, stdout, stderr } = await this.run(method, { ...params, dbg: 'test' });
    if (status === 0) return JSON.parse(stdout);
    throw new Error(`${method} has failed: ${stdout}${stderr}`);
  }

  /** What it says when it fails, as it has to. */
  async failure(method: string, params: object): Promise<SmapiFailure> {
    const { status, stdout } = await this.run(method, { ...params, dbg: 'test' });
    if (status === 1) return JSON.parse(stdout);
    throw new Error(`${method} has not failed: ${stdout}`);
  }

  async end(): Promise<void> {
    await this.stopManager();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export function runScript(
  script: string,
  args: string[],
  input: string,
  env: NodeJS.ProcessEnv = {},
): Promise<Ended> {
  return feed(spawn(script, args, { env: { ...process.env, ...env } }), input);
}

export function feed(child: ChildProcess, input: string): Promise<Ended> {
  const { ended } = follow(child);
  child.stdin?.on('error', () => {});
  child.stdin?.end(input);
  return ended;
}
