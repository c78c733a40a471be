// SPDX-License-Identifier: Apache-2.0
// The whole daemon on the loopback machine, in the test's process, and guests to use it.
import { rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'vitest';
import { type Config, type ConfigOverrides, parseConfig } from '../../src/config.ts';
import { type Daemon, startDaemon } from '../../src/daemon.ts';
import { type LoopbackWorkload, native } from '../../src/datapath/binding.ts';
import { createLogger } from '../../src/log.ts';
import { type LoopbackPlatform, openLoopbackPlatform } from '../../src/platform/loopback.ts';
import { LoopbackFrontend } from '../../src/platform/loopback_frontend.ts';
import {
  createVbd,
  detachVbd,
  type VbdPaths,
  type VbdSpec,
} from '../../src/platform/loopback_toolstack.ts';
import type { VbdInfo } from '../../src/vbd/info.ts';
import { MemoryXenstore } from '../../src/xenstore/memory_client.ts';
import { MemorySession } from '../../src/xenstore/memory_store.ts';
import { temporaryFolder } from './temporary_folder.ts';

export const MIB = 1024 * 1024;

/** One guest with one disk. */
export interface TestGuest {
  readonly paths: VbdPaths;
  readonly frontend: LoopbackFrontend;
}

export class LoopbackMachine {
  readonly config: Config;
  readonly platform: LoopbackPlatform;
  readonly daemon: Daemon;
  readonly #folder: string;
  readonly #guests: (TestGuest & { xenstore: MemoryXenstore })[] = [];

  static async start(overrides: ConfigOverrides = {}): Promise<LoopbackMachine> {
    const folder = temporaryFolder();
    const config = parseConfig({ reactors: 2 }, { ...overrides, runtimeDir: folder });
    const platform = await openLoopbackPlatform(config);
    const log = createLogger({ level: process.env['TEST_LOG'] ? 'debug' : 'silent' });
    return new LoopbackMachine(folder, config, platform, await startDaemon(config, platform, log));
  }

  private constructor(folder: string, config: Config, platform: LoopbackPlatform, daemon: Daemon) {
    this.#folder = folder;
    this.config = config;
    this.platform = platform;
    this.daemon = daemon;
  }

  /** A new sparse file. */
  image(bytes: number, name = 'disk.img'): string {
    return sparseFile(path.join(this.#folder, name), bytes);
  }

  /** What xl does, and a guest domain whose driver has not started yet. */
  async plug(spec: Partial<VbdSpec> & Pick<VbdSpec, 'params'>): Promise<TestGuest> {
    const full: VbdSpec = { domid: this.#guests.length + 1, devid: 51712, vdev: 'xvda', ...spec };
    const paths = await createVbd(this.platform.xenstore, full);
    const xenstore = new MemoryXenstore(new MemorySession(this.platform.store, full.domid));
    const { machineDir } = this.platform;
    const frontend = new LoopbackFrontend(native, machineDir, xenstore, paths);
    const guest = { paths, frontend, xenstore };
    this.#guests.push(guest);
    return guest;
  }

  infos(): VbdInfo[] {
    return this.daemon.vbds().map((vbd) => vbd.info());
  }

  /** xl block-detach of a connected disk; nothing of the guest may be in use after it. */
  async unplug({ paths, frontend }: TestGuest): Promise<void> {
    await Promise.all([detachVbd(this.platform.xenstore, paths), frontend.closedByBackend()]);
    expect(frontend.grantsInUse()).toBe(0);
  }

  /** Nothing of any guest is mapped or bound. */
  expectNothingHeld(): void {
    const { mappedPages, boundPorts } = this.platform.datapath.counters();
    expect({ mappedPages, boundPorts }).toEqual({ mappedPages: 0, boundPorts: 0 });
  }

  /** Stops the daemon with whatever is connected, and removes everything. */
  async close(): Promise<void> {
    await this.daemon.stop();
    this.expectNothingHeld();
    for (const { frontend, xenstore } of this.#guests) {
      await frontend.close();
      await xenstore.close();
    }
    await this.platform.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

export function sparseFile(file: string, bytes: number): string {
  writeFileSync(file, '');
  truncateSync(file, bytes);
  return file;
}

/** Bytes that a file takes on its medium. */
export function allocatedBytes(file: string): number {
  return statSync(file).blocks * 512;
}

/** A workload over the first 8 MiB, once. */
export function workload(
  operation: LoopbackWorkload['operation'],
  given: Partial<LoopbackWorkload> = {},
): LoopbackWorkload {
  const length = given.length ?? 8 * MIB;
  return {
    operation,
    blockBytes: 65536,
    depth: 8,
    offset: 0,
    length,
    bytes: length,
    seed: 7,
    ...given,
  };
}

/** A workload over the same region that goes on for `milliseconds`. */
export function timed(
  operation: LoopbackWorkload['operation'],
  milliseconds: number,
  given: Partial<LoopbackWorkload> = {},
): LoopbackWorkload {
  const { bytes: _, ...rest } = workload(operation, given);
  return { ...rest, milliseconds };
}

/** Writes, reads back and compares; every request must succeed. */
export async function expectWriteAndVerify(
  frontend: LoopbackFrontend,
  given: Partial<LoopbackWorkload> = {},
): Promise<void> {
  const written = await frontend.run(workload('write', given));
  expect(written).toMatchObject({ errors: 0, bytes: workload('write', given).bytes });
  const verified = await frontend.run(workload('verify', given));
  expect(verified).toMatchObject({ errors: 0, mismatches: 0, bytes: written.bytes });
}
