// SPDX-License-Identifier: Apache-2.0
// What stands in device-config of an SR: how its pool is made, or which one it is.

import { parseSize } from '../target/size.ts';
import { LAYOUTS, type Layout, type PoolLayout } from '../volume/manager_types.ts';
import { backendFailure, SmapiError } from './errors.ts';

type Configuration = Readonly<Record<string, string>>;

/** For people, in the SR type's record. */
export const SR_CONFIGURATION = {
  device: 'disks, with commas between them; a pool is made of them',
  layout: `${LAYOUTS.join(', ')} (default: stripe)`,
  width: 'disks of one group (default: mirror 2, others all)',
  log: 'disks for synchronous writes; several are mirrored',
  cache: 'disks for reads',
  special: 'disks for metadata; lost with them, the pool is lost',
  spare: 'disks that take the place of one that fails',
  ashift: 'log2 of the sector, 9 to 16 (default: 12)',
  reserve: 'percent of the space that volumes never get (default: 20)',
  compression: 'as ZFS has it (default: lz4)',
  wipe: 'true: use disks with old labels, partitions or file systems',
  pool: 'name of the pool; without device, one that is there and is adopted',
  thick: 'true: volumes have all their space from the beginning',
  blocksize: 'of volumes, 4K to 128K (default: 16K)',
} as const;

/** What volumes of an SR are made with, as it is kept with its pool. */
export interface VolumeDefaults {
  readonly thick?: boolean;
  readonly blockSize?: number;
}

const DEFAULTS_KEYS = { thick: 'ringdisk-thick', blocksize: 'ringdisk-blocksize' } as const;

/** undefined: no disks are named. Throws SmapiError. */
export function readLayout(configuration: Configuration): PoolLayout | undefined {
  const disks = list(configuration['device']);
  if (disks.length === 0) return undefined;
  const { layout = 'stripe', topology = layout } = configuration;
  const known = LAYOUTS.find((word) => word === topology);
  if (!known) throw wrong('layout', topology, `one of ${LAYOUTS.join(', ')}`);
  const roles = ['log', 'cache', 'special', 'spare'] as const;
  const others = roles.flatMap((role) => {
    const found = list(configuration[role]);
    return found.length > 0 ? [[role, found] as const] : [];
  });
  const width = readNumber(configuration, 'width', 1, 255);
  const ashift = readNumber(configuration, 'ashift', 9, 16);
  return {
    layout: known satisfies Layout,
    disks,
    ...Object.fromEntries(others),
    ...(width !== undefined && { width }),
    ...(ashift !== undefined && { ashift }),
  };
}

export function readNumber(
  configuration: Configuration,
  name: string,
  least: number,
  most: number,
): number | undefined {
  const text = configuration[name];
  if (text === undefined || text === '') return undefined;
  const number = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (number >= least && number <= most) return number;
  throw wrong(name, text, `a number from ${least} to ${most}`);
}

export function readFlag(configuration: Configuration, name: string): boolean | undefined {
  const text = configuration[name];
  if (text === undefined || text === '') return undefined;
  if (text === 'true' || text === 'false') return text === 'true';
  throw wrong(name, text, 'true or false');
}

/** As keys of the pool's store. Throws SmapiError. */
export function defaultsToKeep(configuration: Configuration): Record<string, string> {
  const thick = readFlag(configuration, 'thick');
  const { blocksize } = configuration;
  if (blocksize !== undefined) readBlockSize(blocksize);
  return {
    ...(thick !== undefined && { [DEFAULTS_KEYS.thick]: String(thick) }),
    ...(blocksize !== undefined && { [DEFAULTS_KEYS.blocksize]: blocksize }),
  };
}

/** Of the pool's store. */
export function keptDefaults(keys: Configuration): VolumeDefaults {
  const thick = readFlag({ thick: keys[DEFAULTS_KEYS.thick] ?? '' }, 'thick');
  const blocksize = keys[DEFAULTS_KEYS.blocksize];
  return {
    ...(thick !== undefined && { thick }),
    ...(blocksize !== undefined && { blockSize: readBlockSize(blocksize) }),
  };
}

function readBlockSize(text: string): number {
  const bytes = parseSize(text) ?? 0;
  const isPowerOfTwo = Number.isInteger(Math.log2(bytes));
  if (bytes >= 4096 && bytes <= 128 * 1024 && isPowerOfTwo) return bytes;
  throw wrong('blocksize', text, 'a power of two from 4K to 128K');
}

/** "file-uri" of others is a device here too: "file:///dev/sdb". */
function list(text = ''): string[] {
  return text
    .split(',')
    .map((word) => word.trim().replace(/^file:\/\//, ''))
    .filter((word) => word !== '');
}

export function missingDevice(): SmapiError {
  return backendFailure(90);
}

function wrong(name: string, value: string, expects: string): SmapiError {
  const message = `device-config:${name} is "${value}", not ${expects}`;
  return new SmapiError('SR_BACKEND_FAILURE', ['', 'CONFIGURATION_INVALID', message]);
}
