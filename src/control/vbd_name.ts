// SPDX-License-Identifier: Apache-2.0
// How people name a VBD: "3/51712", "vbd3/3/51712" or "3/xvda". Pure.
import { ControlError } from './errors.ts';

export interface NamedVbd {
  kind: string;
  domid: number;
  devid: number;
}

// Xen's and Linux's numbers: include/public/io/blkif.h, "virtual-device".
const EXTENDED = 1 << 28;
const XVD_MAJOR = 202;
const LETTERS = 26;

/** 51712 → "xvda", 51713 → "xvda1", 768 → "hda"; undefined for numbers of no known naming. */
export function vdevOfDevid(devid: number): string | undefined {
  if (devid >= EXTENDED) {
    const rest = devid - EXTENDED;
    return disk('xvd', Math.floor(rest / 256), rest % 256);
  }
  const major = devid >> 8;
  const minor = devid & 0xff;
  if (major === XVD_MAJOR) return disk('xvd', minor >> 4, minor & 15);
  if (major === 8) return disk('sd', minor >> 4, minor & 15);
  if (major === 3) return disk('hd', minor >> 6, minor & 63);
  if (major === 22) return disk('hd', 2 + (minor >> 6), minor & 63);
  return undefined;
}

function disk(prefix: string, index: number, partition: number): string {
  return `${prefix}${letters(index)}${partition === 0 ? '' : partition}`;
}

/** 0 → "a", 25 → "z", 26 → "aa". */
function letters(index: number): string {
  const last = String.fromCharCode(97 + (index % LETTERS));
  return index < LETTERS ? last : letters(Math.floor(index / LETTERS) - 1) + last;
}

export function vbdName({ kind, domid, devid }: NamedVbd): string {
  return `${kind}/${domid}/${devid}`;
}

/** The VBD that `name` means. Throws ControlError: ENOENT when none, EINVAL when not just one. */
export function findVbd<T extends NamedVbd>(vbds: readonly T[], name: string): T {
  const parts = name.split('/');
  if (parts.length !== 2 && parts.length !== 3) {
    throw new ControlError(
      'EINVAL',
      `"${name}" does not name a VBD: write <domid>/<devid>, <domid>/<vdev> such as 3/xvda, or ` +
        '<kind>/<domid>/<devid>',
    );
  }
  const [device = '', domid = '', kind] = parts.reverse();
  const found = vbds.filter(
    (vbd) =>
      String(vbd.domid) === domid &&
      (kind === undefined || vbd.kind === kind) &&
      (String(vbd.devid) === device || vdevOfDevid(vbd.devid) === device),
  );
  const [only] = found;
  if (only && found.length === 1) return only;
  if (found.length === 0) throw new ControlError('ENOENT', `no VBD ${name}: see "ringdisk list"`);
  const names = found.map(vbdName).join(', ');
  throw new ControlError('EINVAL', `"${name}" could be any of ${names}: give the kind too`);
}
