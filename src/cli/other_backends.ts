// SPDX-License-Identifier: Apache-2.0
// Backends that serve the same disks. Two that answer one guest's ring lose its data, and neither
// can see the other, so a kind that somebody else serves is refused before anything is touched.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { RingdiskError } from '../errors.ts';
import { Records } from '../vbd/record.ts';

export interface OtherBackends {
  /** Serves kind vbd. */
  blkbackLoaded: boolean;
  /** Serve kind vbd3. */
  tapbackPids: number[];
}

export function findOtherBackends(): OtherBackends {
  return {
    blkbackLoaded: existsSync('/sys/module/xen_blkback'),
    tapbackPids: pidsOf('tapback'),
  };
}

/** Processes of this name, which the kernel cuts to 15 characters. */
export function pidsOf(name: string): number[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry) && commOf(entry) === name)
    .map(Number);
}

function commOf(pid: string): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    // It has ended meanwhile.
    return undefined;
  }
}

/** Of the disks that a daemon before left to the next one. */
export function kindsInUse(runtimeDir: string): string[] {
  const isFirst = !existsSync(path.join(runtimeDir, 'vbds'));
  return isFirst ? [] : [...new Set(new Records(runtimeDir).list().map(({ kind }) => kind))];
}

/** Else the kernel loads it for the first disk of its kind. */
export const KEEP_BLKBACK_OUT = "put 'install xen-blkback /bin/false' in /etc/modprobe.d";

/**
 * Throws KIND_TAKEN, with a sentence, for the first of `kinds` that somebody else serves. Of kind
 * qdisk, which is QEMU's, only disks that are marked as ours are looked at.
 */
export function refuseTakenKinds(kinds: readonly string[], others: OtherBackends): void {
  const { blkbackLoaded, tapbackPids } = others;
  if (kinds.includes('vbd') && blkbackLoaded) {
    throw taken('vbd', 'xen-blkback is loaded', `rmmod xen-blkback and ${KEEP_BLKBACK_OUT}`);
  }
  if (kinds.includes('vbd3') && tapbackPids.length > 0) {
    const pids = tapbackPids.join(', ');
    throw taken('vbd3', `tapback runs (process ${pids})`, 'stop it');
  }
}

function taken(kind: string, who: string, remedy: string): RingdiskError {
  return new RingdiskError(
    'KIND_TAKEN',
    `Disks of kind ${kind} are served by somebody else here: ${who}. Two backends on one disk ` +
      `destroy its data. Leave the kind out, or ${remedy}; --force, or "force": true in the ` +
      'configuration, where you know that it serves none of them.',
  );
}
