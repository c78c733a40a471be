// SPDX-License-Identifier: Apache-2.0
// The part that all commands which ask the volume manager share.
import type { Command } from 'commander';
import { MethodClient } from '../control/client.ts';
import {
  MANAGE_DIR,
  MANAGE_METHODS,
  MANAGE_TIMEOUT_MS,
  MANAGER_WORDS,
  type ManageMethods,
  manageSocketPath,
  type WireVolume,
} from '../volume/manage_protocol.ts';
import { UsageError } from './exit_code.ts';

export interface ManagerOptions {
  runtimeDir: string;
  json?: boolean;
}

export type ManageClient = MethodClient<ManageMethods>;

export const VOLUME_ARGUMENT = 'the volume: POOL/KEY, such as tank/vm1';
export const SNAPSHOT_ARGUMENT = 'POOL/KEY@SNAPSHOT, by its name or its key';

/** Adds the options of a command that asks the manager. */
export function addManagerOptions(command: Command): Command {
  return command
    .option('--runtime-dir <dir>', "the volume manager's runtime directory", MANAGE_DIR)
    .option('--json', 'print JSON, in a versioned envelope');
}

/** Runs `body` with a connection to the manager, and closes it. */
export async function withManager<T>(
  { runtimeDir }: ManagerOptions,
  body: (client: ManageClient) => Promise<T>,
): Promise<T> {
  const socket = manageSocketPath(runtimeDir);
  const client = await MethodClient.open(socket, MANAGE_METHODS, MANAGER_WORDS, MANAGE_TIMEOUT_MS);
  try {
    return await body(client);
  } finally {
    client.close();
  }
}

export interface VolumeName {
  pool: string;
  key: string;
  snapshot?: string;
}

/** "tank/vm1" or "tank/vm1@monday". */
export function parseVolumeName(text: string): VolumeName {
  const [, pool, key, snapshot] = /^([^/@]+)\/([^/@]+)(?:@([^/@]+))?$/.exec(text) ?? [];
  if (pool === undefined || key === undefined) {
    throw new UsageError(`${JSON.stringify(text)} is no name of a volume, such as tank/vm1.`);
  }
  return { pool, key, ...(snapshot !== undefined && { snapshot }) };
}

/** A volume's name without a snapshot. */
export function parseVolume(text: string): { pool: string; key: string } {
  const { snapshot, ...name } = parseVolumeName(text);
  if (snapshot === undefined) return name;
  throw new UsageError(`${text} names a snapshot; this is for volumes.`);
}

/** The pool and key of what the user names, a snapshot among it. */
export async function resolveVolume(
  client: ManageClient,
  text: string,
): Promise<{ pool: string; key: string }> {
  const { pool, key, snapshot } = parseVolumeName(text);
  if (snapshot === undefined) return { pool, key };
  const { volumes } = await client.call('listVolumes', { pool });
  return { pool, key: findSnapshot(volumes, key, snapshot, text).key };
}

function findSnapshot(
  volumes: WireVolume[],
  key: string,
  snapshot: string,
  text: string,
): WireVolume {
  const volume = volumes.find((one) => one.key === key);
  const all = volumes.filter(
    (one) => one.kind !== 'volume' && (one.snapshotOf === volume?.uuid || one.key === snapshot),
  );
  const found = all.filter((one) => one.key === snapshot || one.name === snapshot);
  const [first] = found;
  if (first && found.length === 1) return first;
  const why = first
    ? `${found.length} have that name; take a key: ${found.map((one) => one.key).join(', ')}`
    : `it has ${all.map((one) => one.name || one.key).join(', ') || 'none'}`;
  throw new UsageError(`There is no snapshot ${text}: ${why}.`);
}
