// SPDX-License-Identifier: Apache-2.0
// What `ringdisk doctor` looks at. Reading is here, judging in host_verdicts.ts.
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { ControlClient } from '../control/client.ts';
import { controlSocketPath } from '../control/protocol.ts';
import type { UringFeatures } from '../datapath/binding.ts';
import { findOtherBackends, type OtherBackends } from './other_backends.ts';
import { type Privileges, readPrivileges } from './privileges.ts';
import { readXapiFacts, type XapiFacts } from './xapi_facts.ts';
import { readXenFacts, type XenFacts } from './xen_facts.ts';

/** /dev/xen/NAME. */
export const XEN_DEVICES = ['gntdev', 'evtchn', 'xenbus', 'privcmd'] as const;
export type XenDevice = (typeof XEN_DEVICES)[number];

const WORKER_MS_MAX = 10_000;

export interface HostFacts extends OtherBackends, XenFacts {
  /** As `uname -r` prints it. */
  kernel: string;
  /** A sentence, when the addon does not load. */
  addonError?: string;
  uring?: UringFeatures;
  /** Why no worker can be started; undefined when one can, or nothing is known of it. */
  workerError?: string;
  /** The sysctl kernel.io_uring_disabled, where the kernel has it. */
  uringDisabled?: number;
  /** undefined: usable; else the errno's name. */
  devices: Record<XenDevice, string | undefined>;
  /** Why xenstore cannot be reached; undefined when it can. */
  xenstoreError?: string;
  /** Soft limits; Infinity for none. */
  memlockBytes: number;
  nofile: number;
  maxMapCount: number;
  runtimeDirError?: string;
  /** Of this very process, which has given up what the daemon gives up. */
  privileges: Privileges;
  daemonVersion?: string;
  /** The kinds of disks that it serves. */
  daemonBackends?: readonly string[];
  /** Where XAPI is. */
  xapi?: XapiFacts;
  /** The daemon cannot reach xenstored since then. */
  daemonLost?: { since: string; reason: string };
}

/** Reads all of it; `reachXenstore` throws when there is none, and tells of a driver domain. */
export async function readHostFacts(
  runtimeDir: string,
  reachXenstore: () => Promise<XenFacts['driverDomain']>,
): Promise<HostFacts> {
  const limits = readLimits();
  const xenstore = await attempt(reachXenstore);
  return {
    kernel: os.release(),
    ...(await readAddon()),
    ...optional('uringDisabled', readNumber('/proc/sys/kernel/io_uring_disabled')),
    devices: Object.fromEntries(
      XEN_DEVICES.map((name) => [name, accessError(`/dev/xen/${name}`)]),
    ) as HostFacts['devices'],
    ...xenstore,
    ...readXenFacts(runtimeDir),
    memlockBytes: memlockBytes(limits),
    nofile: softLimit(limits, 'Max open files'),
    maxMapCount: readNumber('/proc/sys/vm/max_map_count') ?? 0,
    ...findOtherBackends(),
    ...optional('runtimeDirError', runtimeDirError(runtimeDir)),
    privileges: readPrivileges(),
    ...(await daemonFacts(runtimeDir)),
    ...optional('xapi', await readXapiFacts()),
  };
}

async function readAddon(): Promise<Pick<HostFacts, 'addonError' | 'uring' | 'workerError'>> {
  try {
    // Not imported at the top: an addon that does not load is a finding, not a crash.
    const { native } = await import('../datapath/binding.ts');
    return {
      uring: native.probeUring(),
      ...optional('workerError', startError(native.version().worker)),
    };
  } catch (error) {
    return { addonError: (error as Error).message.split('\n')[0] ?? 'unknown' };
  }
}

/** Started by anybody but the daemon a worker says so, and ends with status 2. */
function startError(worker: string): string | undefined {
  const { error, signal, status } = spawnSync(worker, { stdio: 'ignore', timeout: WORKER_MS_MAX });
  if (status === 2) return undefined;
  const why = (error as NodeJS.ErrnoException)?.code ?? signal ?? `ends with status ${status}`;
  return `${worker}: ${why}`;
}

function accessError(file: string): string | undefined {
  try {
    accessSync(file, constants.R_OK | constants.W_OK);
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'EIO';
  }
}

async function attempt(
  reachXenstore: () => Promise<XenFacts['driverDomain']>,
): Promise<Pick<HostFacts, 'xenstoreError' | 'driverDomain'>> {
  try {
    return optional('driverDomain', await reachXenstore());
  } catch (error) {
    return { xenstoreError: (error as Error).message };
  }
}

function runtimeDirError(runtimeDir: string): string | undefined {
  // Where it does not exist yet, the daemon makes it: its nearest existing parent must let it.
  let folder = path.resolve(runtimeDir);
  while (!existsSync(folder)) folder = path.dirname(folder);
  const error = accessError(folder);
  return error && `${folder}: ${error}`;
}

async function daemonFacts(
  runtimeDir: string,
): Promise<Pick<HostFacts, 'daemonVersion' | 'daemonBackends' | 'daemonLost'>> {
  try {
    const client = await ControlClient.connect(controlSocketPath(runtimeDir));
    try {
      const { ringdisk, backends, xenstoreLost } = await client.call('version', {});
      const lost = optional('daemonLost', xenstoreLost);
      return { daemonVersion: ringdisk, daemonBackends: backends, ...lost };
    } finally {
      client.close();
    }
  } catch {
    return {};
  }
}

/** How much memory this process may lock, io_uring's registered memory included. */
export function memlockBytes(limits = readLimits()): number {
  return softLimit(limits, 'Max locked memory');
}

function readLimits(): string {
  return readText('/proc/self/limits') ?? '';
}

/** "Max open files            1024                 524288               files" → 1024. */
function softLimit(limits: string, name: string): number {
  const line = limits.split('\n').find((candidate) => candidate.startsWith(name)) ?? '';
  const soft = line.slice(name.length).trim().split(/\s+/)[0] ?? '0';
  return soft === 'unlimited' ? Number.POSITIVE_INFINITY : Number(soft);
}

function readText(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}

function readNumber(file: string): number | undefined {
  const text = readText(file);
  return text === undefined ? undefined : Number(text);
}

function optional<K extends string, V>(key: K, value: V | undefined): { [key in K]?: V } {
  return (value === undefined ? {} : { [key]: value }) as { [key in K]?: V };
}
