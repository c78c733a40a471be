// SPDX-License-Identifier: Apache-2.0
// A disk that is filled from a source, as it is looked at and set.
import { RingdiskError } from '../errors.ts';
import type { Device, Medium } from './device.ts';
import { vbdName } from './id.ts';

/** How far a disk is filled; sizes in bytes. */
export interface FillInfo {
  readonly state: 'filling' | 'paused' | 'failing' | 'full';
  readonly bytes: number;
  readonly bytesHere: number;
  /** Here, but not yet known as here after the host's death. */
  readonly bytesUnsaved: number;
  readonly bytesFetched: number;
  /** A second; 0: as fast as it goes. */
  readonly rate: number;
  readonly errors: number;
  /** What the job met last, where it fails. */
  readonly error?: string;
}

/** Missing: as it is. */
export interface FillChange {
  readonly rate?: number | undefined;
  readonly paused?: boolean | undefined;
}

/** One that was full when it was opened is not filled any more. */
export function describeFill({ target }: Medium): FillInfo {
  const status = target.fill();
  if (!status || status.full) {
    const bytes = target.capabilities.capacity;
    const none = { bytesUnsaved: 0, bytesFetched: status?.fetchedBytes ?? 0, rate: 0 };
    return { state: 'full', bytes, bytesHere: bytes, ...none, errors: status?.errors ?? 0 };
  }
  const { chunkBytes, chunks, here, unsaved, fetchedBytes, rate, errors, failing } = status;
  const going = failing === '' ? 'filling' : 'failing';
  return {
    state: status.paused ? 'paused' : going,
    bytes: chunks * chunkBytes,
    bytesHere: here * chunkBytes,
    bytesUnsaved: unsaved * chunkBytes,
    bytesFetched: fetchedBytes,
    rate,
    errors,
    ...(failing !== '' && { error: failing }),
  };
}

/** Throws FILL_NONE, or VBD_NOT_READY. One that is full takes every change, and needs none. */
export function changeFill({ id, medium }: Device, change: FillChange): FillInfo {
  const name = vbdName(id);
  if (!medium) throw new RingdiskError('VBD_NOT_READY', `The target of ${name} is not open.`);
  if (medium.spec.kind !== 'fill') {
    throw new RingdiskError('FILL_NONE', `${name} is not filled from a source.`);
  }
  const now = medium.target.fill();
  if (now && (change.rate !== undefined || change.paused !== undefined)) {
    medium.target.setFill(change.rate ?? now.rate, change.paused ?? now.paused);
  }
  return describeFill(medium);
}
