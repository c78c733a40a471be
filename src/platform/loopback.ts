// SPDX-License-Identifier: Apache-2.0
// A machine without a hypervisor: an in-memory xenstore on <runtimeDir>/xenstored.sock, and the
// addon on the folder <runtimeDir>/machine. The xenstore is in this process, or in another one that
// outlives it. What it does not emulate: the hypervisor's limits, permissions between domains, a
// domain's sudden death, migration, and the time that any of it takes.
import { mkdirSync, rmdirSync } from 'node:fs';
import path from 'node:path';
import type { Config } from '../config.ts';
import type { Datapath } from '../datapath/datapath.ts';
import { isAbandoned } from '../unix_socket.ts';
import { openXenstore } from '../xenstore/connection.ts';
import { MemoryXenstore } from '../xenstore/memory_client.ts';
import { MemorySession, MemoryStore } from '../xenstore/memory_store.ts';
import { serveXenstore, type XenstoreServer } from '../xenstore/server.ts';
import { openEngine } from './open_engine.ts';
import type { Platform } from './platform.ts';

/** A machine that this process is. */
export interface LoopbackPlatform extends Platform {
  readonly name: 'loopback';
  /** For frontends in this process. */
  readonly store: MemoryStore;
  /** What createLoopbackGuest() takes. */
  readonly machineDir: string;
}

/** Where the guests of this machine are; the same for the daemon and for the guests. */
export function loopbackMachineDir(runtimeDir: string): string {
  return path.join(runtimeDir, 'machine');
}

/** Where toolstacks and guests in other processes reach this machine's xenstore. */
export function loopbackXenstoreSocket(runtimeDir: string): string {
  return path.join(runtimeDir, 'xenstored.sock');
}

/** The machine of another process where one serves its xenstore; else one in this process. */
export async function findLoopbackPlatform(config: Config): Promise<Platform> {
  const path = loopbackXenstoreSocket(config.runtimeDir);
  if (await isAbandoned(path)) return openLoopbackPlatform(config);
  const xenstore = await openXenstore({ path });
  const datapath = openMachine(config);
  return {
    name: 'loopback',
    backendDomid: 0,
    xenstore,
    datapath,
    outlivesUs: true,
    close: async () => {
      datapath.close();
      await xenstore.close();
    },
  };
}

export async function openLoopbackPlatform(config: Config): Promise<LoopbackPlatform> {
  const machineDir = loopbackMachineDir(config.runtimeDir);
  const store = new MemoryStore();
  const datapath = openMachine(config);
  const server = await serveStore(store, config.runtimeDir).catch((error: unknown) => {
    datapath.close();
    throw error;
  });
  const xenstore = new MemoryXenstore(new MemorySession(store, 0));
  return {
    name: 'loopback',
    backendDomid: 0,
    store,
    xenstore,
    datapath,
    outlivesUs: false,
    machineDir,
    close: async () => {
      datapath.close();
      await xenstore.close();
      await server.close();
      removeIfEmpty(machineDir);
    },
  };
}

function openMachine(config: Config): Datapath {
  const machineDir = loopbackMachineDir(config.runtimeDir);
  mkdirSync(machineDir, { recursive: true, mode: 0o700 });
  return openEngine(config, { platform: 'loopback', machineDir });
}

function serveStore(store: MemoryStore, runtimeDir: string): Promise<XenstoreServer> {
  return serveXenstore(store, { path: loopbackXenstoreSocket(runtimeDir), domid: 0 });
}

// Guests own their folders in it, and may outlive the daemon.
function removeIfEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOTEMPTY') throw error;
  }
}
