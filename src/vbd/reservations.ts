// SPDX-License-Identifier: Apache-2.0
// Media of VBDs that a former daemon served and that are not taken over yet: their guests go on
// with them, so nobody else gets them, whoever is faster.
import type { MediumParts } from '../datapath/datapath.ts';
import type { XenstoreClient } from '../xenstore/client.ts';
import {
  type Footprint,
  footprintOf,
  type KnownUser,
  meetings,
  readVms,
  refuseHeld,
  type TargetUser,
  type Vms,
} from './sharing.ts';

interface Reservation {
  readonly identity: string;
  readonly footprint: Footprint;
  readonly user: TargetUser;
  vms: Vms | undefined;
}

const NONE: Vms = new Set();

export class Reservations {
  readonly #xenstore: XenstoreClient;
  /** By the VBD's name. */
  readonly #all = new Map<string, Reservation>();

  constructor(xenstore: XenstoreClient) {
    this.#xenstore = xenstore;
  }

  add(identity: string, parts: MediumParts | undefined, user: TargetUser): void {
    if (identity === '') return;
    const footprint = footprintOf(identity, parts);
    this.#all.set(user.name, { identity, footprint, user, vms: undefined });
  }

  /** Of the VBD of that name; its medium's identity, or undefined where it had none. */
  remove(name: string): string | undefined {
    const reserved = this.#all.get(name);
    this.#all.delete(name);
    return reserved?.identity;
  }

  has(identity: string): boolean {
    return [...this.#all.values()].some((reserved) => reserved.identity === identity);
  }

  /** All that is of the same medium, under any of its names. */
  #meeting(footprint: Footprint): Reservation[] {
    return [...this.#all.values()].filter(
      (reserved) => meetings(footprint, reserved.footprint).length > 0,
    );
  }

  /** Until refuse() needs nothing of xenstore; undefined: it does not. */
  know(footprint: Footprint): Promise<unknown> | undefined {
    const unknown = this.#meeting(footprint).filter(({ vms }) => vms === undefined);
    if (unknown.length === 0) return undefined;
    return Promise.all(unknown.map((reserved) => this.#readVmsOf(reserved)));
  }

  /** Throws TARGET_BUSY. */
  refuse(footprint: Footprint, newcomer: KnownUser, meet: typeof meetings): void {
    for (const { user, vms, footprint: other } of this.#meeting(footprint)) {
      refuseHeld(newcomer, { ...user, vms: vms ?? NONE }, meet(footprint, other));
    }
  }

  async #readVmsOf(reserved: Reservation): Promise<void> {
    reserved.vms = await readVms(this.#xenstore, reserved.user.domid);
  }
}
