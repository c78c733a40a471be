// SPDX-License-Identifier: Apache-2.0
// What is known of a volume, as user properties of ZFS. A value may hold any text: what would break
// a line of `zfs get`, or could be taken for no value at all, is escaped as in URIs.
import { ManagerError } from './manager_types.ts';

/** ZFS's own limit is 8192 with the final zero. */
const VALUE_BYTES_MAX = 8191;

export const PROPERTY = {
  uuid: 'ringdisk:uuid',
  name: 'ringdisk:name',
  description: 'ringdisk:description',
  /** JSON: the toolstack's words. */
  keys: 'ringdisk:keys',
  sharable: 'ringdisk:sharable',
  cbt: 'ringdisk:cbt',
  /** A snapshot's volume, by UUID. */
  of: 'ringdisk:of',
  /** What a clone was made from, by UUID. */
  from: 'ringdisk:from',
  /** JSON, on a volume: what is known of its bookmarks, which have no properties of their own. */
  bookmarks: 'ringdisk:bookmarks',
  /** JSON, on a volume: who needs the devices of its snapshots. */
  exposed: 'ringdisk:exposed',
  /** On a snapshot: the replication job that has made it. */
  job: 'ringdisk:job',
  /** On a volume: the job, as POOL/NAME, whose destination it is. Nobody else writes to it. */
  replica: 'ringdisk:replica',
  /** JSON, on a volume: what its jobs have sent of it, by their names. */
  sent: 'ringdisk:sent',
  /** On a store: ringdisk has made the pool. */
  owned: 'ringdisk:owned',
  /** On the reservation: percent. */
  reserve: 'ringdisk:reserve',
} as const;

/** What stays behind when a volume is sent elsewhere: it tells of this host, or of this dataset. */
export const MINE_ALONE = [
  PROPERTY.bookmarks,
  PROPERTY.exposed,
  PROPERTY.replica,
  PROPERTY.sent,
  'snapdev',
] as const;

export function encodeText(text: string): string {
  const encoded = text
    .replaceAll(/[%\p{Cc}\u2028\u2029]/gu, (char) => encodeURIComponent(char))
    .replace(/^(-?)$/, (_, dash) => (dash ? '%2D' : '%'));
  if (/\p{Surrogate}/u.test(text) || Buffer.byteLength(encoded) > VALUE_BYTES_MAX) {
    throw new ManagerError(
      'NAME_INVALID',
      `what is to be kept with the volume is no text, or longer than ${VALUE_BYTES_MAX} bytes: ` +
        `${JSON.stringify(text.slice(0, 40))}`,
    );
  }
  return encoded;
}

/** What somebody else has written stays as it is. */
export function decodeText(value: string): string {
  if (value === '%') return '';
  try {
    return decodeURIComponent(value);
  } catch {
    return value;
  }
}

export function encodeRecord(record: object): string {
  return encodeText(JSON.stringify(record));
}

/** Throws ManagerError where it is no record: what cannot be read must not be taken for empty. */
export function decodeRecord(value: string | undefined, where: string): Record<string, unknown> {
  if (value === undefined) return {};
  try {
    const record: unknown = JSON.parse(decodeText(value));
    if (typeof record === 'object' && record !== null && !Array.isArray(record)) {
      return record as Record<string, unknown>;
    }
  } catch {
    // Said below.
  }
  throw new ManagerError('ZFS_FAILED', `${where} holds ${JSON.stringify(value)}, which is no JSON`);
}

/** Keeps only texts: others are not ours. */
export function textsOf(record: Record<string, unknown>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(record).filter((entry): entry is [string, string] => {
      return typeof entry[1] === 'string';
    }),
  );
}
