// SPDX-License-Identifier: Apache-2.0
// What `zfs send` and `zfs receive` are called with for a volume, and what they say of a resume
// token. Pure.

export interface SendWish {
  /** In full: tank/ringdisk/vm1@monday. */
  snapshot: string;
  /** Only what has changed since this one. */
  from?: string | undefined;
  /** As it lies on the disks: without its key, and for a receiver that has none. */
  encrypted: boolean;
}

export function sendArguments({ snapshot, from, encrypted }: SendWish): string[] {
  const how = encrypted ? ['-w'] : ['-c', '-e', '-L'];
  return ['send', '-p', ...how, ...(from === undefined ? [] : ['-i', from]), snapshot];
}

export interface ReceiveWish {
  dataset: string;
  /** Forgets what was written there since. */
  force?: boolean | undefined;
  /** Properties that are not taken from the sender. */
  without: readonly string[];
  settings?: Readonly<Record<string, string>>;
}

/** It can be gone on with where it is cut off (-s), and mounts nothing (-u). */
export function receiveArguments({ dataset, force, without, settings = {} }: ReceiveWish) {
  const set = Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  const not = without.filter((name) => !(name in settings)).flatMap((name) => ['-x', name]);
  return ['receive', '-s', '-u', ...(force ? ['-F'] : []), ...not, ...set, dataset];
}

export function isToken(text: string): boolean {
  return /^[0-9a-f-]{16,8192}$/.test(text);
}

/** What `zfs send -nvP` tells of a send that it would make. */
export interface SendEstimate {
  bytes?: number;
  /** Of the snapshot, decimal; only of a token. */
  toGuid?: string;
}

export function parseEstimate(text: string): SendEstimate {
  const [, size] = /^size\t(\d+)$/m.exec(text) ?? [];
  const [, guid] = /^\s*toguid = 0x([0-9a-f]{1,16})$/m.exec(text) ?? [];
  return {
    ...(size !== undefined && { bytes: Number(size) }),
    ...(guid !== undefined && { toGuid: BigInt(`0x${guid}`).toString() }),
  };
}
