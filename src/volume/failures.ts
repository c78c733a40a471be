// SPDX-License-Identifier: Apache-2.0
// What ZFS failed by, as the manager's callers are told: a code, and a sentence with ZFS's words.
import type { ZfsError, ZfsErrorKind } from '../zfs/zfs_error.ts';
import { ZfsError as ZfsFailure } from '../zfs/zfs_error.ts';
import { ManagerError, type ManagerErrorCode } from './manager_types.ts';

type Subject = 'pool' | 'volume';

const CODES: Record<ZfsErrorKind, ManagerErrorCode | Record<Subject, ManagerErrorCode>> = {
  missing: 'ZFS_MISSING',
  timeout: 'ZFS_TIMEOUT',
  unknown: { pool: 'POOL_UNKNOWN', volume: 'VOLUME_UNKNOWN' },
  exists: { pool: 'POOL_EXISTS', volume: 'VOLUME_EXISTS' },
  busy: { pool: 'POOL_BUSY', volume: 'VOLUME_BUSY' },
  full: 'POOL_FULL',
  suspended: 'POOL_SUSPENDED',
  'in use': 'DISK_IN_USE',
  layout: 'LAYOUT_INVALID',
  labelled: 'DISK_LABELLED',
  snapshots: { pool: 'POOL_BUSY', volume: 'VOLUME_FOREIGN' },
  clones: { pool: 'POOL_BUSY', volume: 'VOLUME_FOREIGN' },
  key: 'KEY_WRONG',
  property: 'PROPERTY_INVALID',
  unsupported: 'UNSUPPORTED',
  other: 'ZFS_FAILED',
};

/** Runs `body`; what ZFS fails by becomes a ManagerError, whose sentence begins with `doing`. */
export async function explained<T>(
  subject: Subject,
  doing: string,
  body: () => Promise<T>,
): Promise<T> {
  try {
    return await body();
  } catch (error) {
    if (error instanceof ZfsFailure) throw toManagerError(subject, doing, error);
    if (error instanceof SyntaxError) {
      throw new ManagerError('ZFS_FAILED', `${doing}: ${error.message}`, { cause: error });
    }
    throw error;
  }
}

function toManagerError(subject: Subject, doing: string, error: ZfsError): ManagerError {
  const code = CODES[error.kind];
  return new ManagerError(
    typeof code === 'string' ? code : code[subject],
    `${doing}: ${error.words.split('\n').join('; ')}`,
    { cause: error },
  );
}
