// SPDX-License-Identifier: Apache-2.0
// The native boundary of mirrors; see binding.ts.

/** What may be changed of a mirror while it goes on. */
export interface MirrorWish {
  /** A guest's write is answered when both ends have it; else when the source has. */
  sync: boolean;
  paused: boolean;
  /** Of the copying, bytes a second; 0: as fast as it goes. */
  rate: number;
}

export interface MirrorSetup extends MirrorWish {
  /** A bitmap's file: which chunks the destination may lack. */
  mapPath: string;
  /** It lacks all. */
  isNew: boolean;
}

export interface MirrorStatus {
  bytes: number;
  /** What is to be copied. */
  behindBytes: number;
  copiedBytes: number;
  /** Of the copying, bytes a second; 0: not known. */
  speed: number;
  /** Reads of the source that failed: they are tried again. */
  sourceErrors: number;
  sync: boolean;
  /** Both ends are alike and the destination may become the disk. */
  ready: boolean;
  hasDestination: boolean;
  /** Every chunk was looked at once: what is to be copied now was written since. */
  swept: boolean;
  /** Why nothing is mirrored any more, an errno's name; "": it is. */
  error: string;
}

export type MirrorEvent =
  /** It is ready, has been all over the disk once, or is over. */
  | { type: 'mirror-changed'; mirror: number }
  /** Its destination is free. */
  | { type: 'mirror-gone'; mirror: number };

export interface NativeMirrors {
  /** Of an open target. done.value: the mirror's handle. ESTALE: the map is not to be believed. */
  makeMirror(command: number, target: number, setup: MirrorSetup): void;
  /** Once. It is claimed, and not fenced. */
  giveMirror(command: number, mirror: number, destination: number): void;
  /** While the guest runs. What it writes from then on is mirrored. */
  attachMirror(command: number, vbd: number, mirror: number): void;
  detachMirror(command: number, vbd: number): void;
  /** Done when nothing of the VBD's is under way; nothing more is until it is decided. */
  beginSwitch(command: number, vbd: number): void;
  /** Whether the destination is the VBD's target from now on. */
  decideSwitch(command: number, vbd: number, goesOn: boolean): void;
  setMirror(mirror: number, wish: MirrorWish): void;
  /** Nothing is mirrored any more; its filters only hand on. */
  endMirror(mirror: number): void;
  /** Done when its source is free; `mirror-gone` follows. */
  closeMirror(command: number, mirror: number): void;
  /** null: there is none. */
  mirrorStatus(mirror: number): MirrorStatus | null;
}
