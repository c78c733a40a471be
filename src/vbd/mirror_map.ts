// SPDX-License-Identifier: Apache-2.0
// The file that says which chunks a mirror's destination may lack. The data path keeps it, so that
// it is right whoever dies when; it goes with the host.
import { createHash } from 'node:crypto';
import { readFileSync, rmSync } from 'node:fs';
import { granularityFor } from '../bitmaps/bitmap_shape.ts';
import { native } from '../datapath/binding.ts';
import { encodeText } from '../text.ts';

/** Whose it is. */
export interface MirrorEnds {
  readonly source: string;
  readonly destination: string;
}

/** A new one: the destination lacks all. */
export function makeMirrorMap(file: string, bytes: number, ends: MirrorEnds): void {
  rmSync(file, { force: true });
  native.createBitmap(file, bytes, granularityFor(bytes), labelOf(ends), 'recording');
}

/** Throws an Error whose message says why no mirror goes on by it. */
export function checkMirrorMap(file: string, ends: MirrorEnds): void {
  const { label, state } = native.lookAtBitmap(file, 0);
  if (label !== labelOf(ends)) throw new Error('its map is of other media');
  if (state !== 'recording') throw new Error('it had failed before the daemon ended');
}

function labelOf({ source, destination }: MirrorEnds): string {
  const hash = createHash('sha256')
    .update(encodeText(`${source}\0${destination}`))
    .digest('hex');
  return `mirror ${bootId()} ${hash}`;
}

/** What is from before the host was started anew is not believed. */
function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}
