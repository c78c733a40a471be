// SPDX-License-Identifier: Apache-2.0
// The runtime directory: what is in it is believed. A record names the file or device that is
// opened for a guest, so nobody else may write there.
import { mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { ControlError } from './errors.ts';

const WRITABLE_BY_OTHERS = 0o022;

/** Makes it if it is not there. Throws ControlError where somebody else could write into it. */
export function makeRuntimeDir(path: string, ownUid = process.geteuid?.()): void {
  makeFolder(path);
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

/** Node's own recursive mkdir never ends where a file system refuses by ENOENT, as /proc does. */
function makeFolder(path: string): void {
  try {
    if (statSync(path).isDirectory()) return;
    throw new ControlError('ENOTDIR', `The runtime directory ${path} is no directory.`);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw whyNot(path, error);
  }
  const parent = dirname(path);
  if (parent !== path) makeFolder(parent);
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    // Another process was faster.
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw whyNot(path, error);
    makeExistingSure(path, error);
  }
}

function makeExistingSure(path: string, error: unknown): void {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (!stat?.isDirectory()) throw whyNot(path, error);
}

function whyNot(path: string, error: unknown): ControlError {
  if (error instanceof ControlError) return error;
  const { code = 'EIO', message } = error as NodeJS.ErrnoException;
  const reasons: Record<string, string> = {
    EEXIST: 'it is a symbolic link to nothing',
    ENOENT: 'its file system takes no folders',
    ENOTDIR: 'what is above it is no directory',
    EROFS: 'its file system is read only',
    ENOSPC: 'its file system is full',
    EACCES: 'this user may not',
    EPERM: 'this user may not',
  };
  return new ControlError(
    code,
    `The runtime directory ${path} cannot be made: ${reasons[code] ?? message}. ` +
      'Choose another by --runtime-dir.',
  );
}
