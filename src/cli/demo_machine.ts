// SPDX-License-Identifier: Apache-2.0
// What `ringdisk demo` runs on: a temporary folder with a sparse disk image in it, the loopback
// machine, the daemon in this process, and one guest.
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseConfig } from '../config.ts';
import { type Daemon, startDaemon } from '../daemon.ts';
import { native } from '../datapath/binding.ts';
import type { Logger } from '../log.ts';
import { type LoopbackPlatform, openLoopbackPlatform } from '../platform/loopback.ts';
import { LoopbackFrontend } from '../platform/loopback_frontend.ts';
import { createVbd, detachVbd, type VbdPaths } from '../platform/loopback_toolstack.ts';
import { MemoryXenstore } from '../xenstore/memory_client.ts';
import { MemorySession } from '../xenstore/memory_store.ts';
import { Undo } from './undo.ts';

const DOMID = 1;
const XVDA = 51712;

export interface DemoMachine {
  readonly image: string;
  readonly frontend: LoopbackFrontend;
  /** Bytes that the image takes on the host's disk. */
  allocatedBytes(): number;
  /** Undoes everything, in order; safe at any moment. */
  close(): Promise<void>;
}

/** Everything but the negotiation. On failure nothing is left behind. */
export async function startDemoMachine(diskBytes: number, log: Logger): Promise<DemoMachine> {
  const undo = new Undo();
  try {
    const folder = mkdtempSync(path.join(os.tmpdir(), 'ringdisk-demo-'));
    undo.add(() => rmSync(folder, { recursive: true, force: true }));
    const image = path.join(folder, 'disk.img');
    writeFileSync(image, '');
    truncateSync(image, diskBytes);
    const config = parseConfig({}, { runtimeDir: runtimeFolder(folder, undo) });
    const platform = await openLoopbackPlatform(config);
    undo.add(() => platform.close());
    const daemon: Daemon = await startDaemon(config, platform, log);
    undo.add(() => daemon.stop());
    const frontend = await startGuest(platform, image, undo);
    const allocatedBytes = () => statSync(image).blocks * 512;
    return { image, frontend, allocatedBytes, close: () => undo.run() };
  } catch (error) {
    // The first failure is the one to tell.
    await undo.run().catch(() => {});
    throw error;
  }
}

/** On tmpfs where there is one: guest memory lies there. */
function runtimeFolder(folder: string, undo: Undo): string {
  const parent = existsSync('/dev/shm') ? '/dev/shm' : folder;
  const runtimeDir = path.join(parent, path.basename(folder));
  mkdirSync(runtimeDir, { mode: 0o700 });
  undo.add(() => rmSync(runtimeDir, { recursive: true, force: true }));
  return runtimeDir;
}

async function startGuest(
  platform: LoopbackPlatform,
  image: string,
  undo: Undo,
): Promise<LoopbackFrontend> {
  const paths = await createVbd(platform.xenstore, {
    domid: DOMID,
    devid: XVDA,
    vdev: 'xvda',
    params: `aio:${image}`,
  });
  const guest = new MemoryXenstore(new MemorySession(platform.store, DOMID));
  undo.add(() => guest.close());
  const frontend = new LoopbackFrontend(native, platform.machineDir, guest, paths);
  undo.add(() => frontend.close());
  undo.add(() => unplug(platform, frontend, paths));
  return frontend;
}

async function unplug(
  platform: LoopbackPlatform,
  frontend: LoopbackFrontend,
  paths: VbdPaths,
): Promise<void> {
  const detached = detachVbd(platform.xenstore, paths);
  await Promise.all([detached, frontend.closedByBackend()]);
}
