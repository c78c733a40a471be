// SPDX-License-Identifier: Apache-2.0
// The runtime directory: what is in it is believed. A record names the file or device that is
// opened for a guest, so nobody else may write there.
import { mkdirSync, statSync } from 'node:fs';
import { ControlError } from './errors.ts';

const WRITABLE_BY_OTHERS = 0o022;

/** Makes it if it is not there. Throws ControlError where somebody else could write into it. */
export function makeRuntimeDir(path: string, ownUid = process.geteuid?.()): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const { uid, mode } = statSync(path);
  if (uid !== ownUid) {
    throw new ControlError(
      'EPERM',
      `${path} belongs to user ${uid}, not to the daemon's (${ownUid}): what is in it is ` +
        `believed. Remove it, or chown ${ownUid} ${path}.`,
    );
  }
  if ((mode & WRITABLE_BY_OTHERS) === 0) return;
  throw new ControlError(
    'EPERM',
    `others may write into ${path}, and what is in it is believed: chmod go-w ${path}.`,
  );
}
