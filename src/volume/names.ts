// SPDX-License-Identifier: Apache-2.0
// How things are named in ZFS. Below <pool>/ringdisk:
//   vm1                the volume with the key vm1
//   vm1@3f2a...        its snapshot with that key, a UUID
//   vm1@3f2a...:base   what a clone of the volume was made from; nobody's snapshot
//   vm1:new            a revert or import under way: what vm1 is to become
//   vm1:ready          another volume that takes vm1's place: nothing is missing of it
//   3f2a...:old        a volume that is gone but for its snapshots
//   reserve:           the reservation
// A colon is ours: no key has one.
import { ManagerError } from './manager_types.ts';

export const STORE = 'ringdisk';
const KEY = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/;
/** As ZFS has it; ZFS also reserves some words, which it says itself. */
const POOL = /^[A-Za-z][A-Za-z0-9_.:-]{0,99}$/;
const BASE = ':base';
const NEW = ':new';
const READY = ':ready';
const OLD = ':old';
const RESERVE = 'reserve:';

export function storeOf(pool: string): string {
  return `${pool}/${STORE}`;
}

export function reserveOf(pool: string): string {
  return `${storeOf(pool)}/${RESERVE}`;
}

export function checkKey(key: string): string {
  if (KEY.test(key)) return key;
  throw new ManagerError(
    'NAME_INVALID',
    `${JSON.stringify(key)} cannot be a key: up to 100 letters, digits, dots, dashes and ` +
      'underlines, the first a letter or a digit.',
  );
}

export function checkPoolName(pool: string): string {
  if (POOL.test(pool)) return pool;
  throw new ManagerError('NAME_INVALID', `${JSON.stringify(pool)} cannot be the name of a pool.`);
}

export const volumeDataset = (pool: string, key: string) => `${storeOf(pool)}/${checkKey(key)}`;
export const snapshotDataset = (volume: string, key: string) => `${volume}@${checkKey(key)}`;
export const baseDataset = (volume: string, key: string) => `${volume}@${key}${BASE}`;
export const newDataset = (volume: string) => `${volume}${NEW}`;
export const readyDataset = (volume: string) => `${volume}${READY}`;
export const oldDataset = (pool: string, key: string) => `${storeOf(pool)}/${key}${OLD}`;

export type Role =
  | 'store'
  | 'reserve'
  | 'volume'
  | 'new'
  | 'ready'
  | 'old'
  | 'snapshot'
  | 'base'
  | 'bookmark'
  | 'other';

/** What a dataset of a store is, by its name alone. */
export interface DatasetName {
  /** The zvol's or file system's full name, without the snapshot. */
  parent: string;
  /** The part that is its key; without our suffix. */
  key: string;
  role: Role;
}

export function readName(pool: string, dataset: string): DatasetName {
  const store = storeOf(pool);
  const [, parent = '', mark, last = ''] = /^([^@#]+)(?:([@#])(.*))?$/.exec(dataset) ?? [];
  if (dataset === store) return { parent, key: '', role: 'store' };
  const name = parent.slice(store.length + 1);
  if (mark === '#') return { parent, key: last, role: 'bookmark' };
  if (mark === '@') {
    const isBase = last.endsWith(BASE);
    return { parent, key: strip(last, BASE), role: isBase ? 'base' : 'snapshot' };
  }
  if (name === RESERVE) return { parent, key: '', role: 'reserve' };
  if (name.endsWith(NEW)) return { parent, key: strip(name, NEW), role: 'new' };
  if (name.endsWith(READY)) return { parent, key: strip(name, READY), role: 'ready' };
  if (name.endsWith(OLD)) return { parent, key: strip(name, OLD), role: 'old' };
  return { parent, key: name, role: KEY.test(name) ? 'volume' : 'other' };
}

function strip(text: string, suffix: string): string {
  return text.endsWith(suffix) ? text.slice(0, -suffix.length) : text;
}
