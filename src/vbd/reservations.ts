// SPDX-License-Identifier: Apache-2.0
// Media of VBDs that a former daemon served and that are not taken over yet: their guests go on
// with them, so nobody else gets them, whoever is faster. So with exports that hand a medium over.
import type { MediumParts } from '../datapath/datapath.ts';
import type { XenstoreClient } from '../xenstore/client.ts';
import { deferred } from './beside.ts';
import {
  type Footprint,
  footprintOf,
  type KnownUser,
  meetings,
  readVms,
  refuseHeld,
  refuseMirrored,
  type TargetUser,
  type Vms,
} from './sharing.ts';

interface Reservation {
  readonly identity: string;
  readonly footprint: Footprint;
  readonly user: TargetUser;
  readonly isAlone: boolean;
  readonly gone: ReturnType<typeof deferred>;
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

  add(identity: string, parts: MediumParts | undefined, user: TargetUser, isAlone: boolean): void {
    if (identity === '') return;
    this.remove(user.name);
    const footprint = footprintOf(identity, parts);
    const gone = deferred();
    this.#all.set(user.name, { identity, footprint, user, isAlone, gone, vms: undefined });
  }

  /** Of the VBD of that name; its medium's identity, or undefined where it had none. */
  remove(name: string): string | undefined {
    const reserved = this.#all.get(name);
    this.#all.delete(name);
    reserved?.gone.resolve();
    return reserved?.identity;
  }

  includes(name: string): boolean {
    return this.#all.has(name);
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

  /** Resolves when one who hands it over has it open again, or never will; undefined: none does. */
  handOver(footprint: Footprint): Promise<void> | undefined {
    return this.#meeting(footprint).find(({ user }) => user.handsOver)?.gone.promise;
  }

  /** Throws TARGET_BUSY. */
  refuse(footprint: Footprint, newcomer: KnownUser, meet: typeof meetings): void {
    for (const { user, vms, isAlone, footprint: other } of this.#meeting(footprint)) {
      const met = meet(footprint, other);
      if (met.length > 0 && isAlone) refuseMirrored(newcomer, user);
      refuseHeld(newcomer, { ...user, vms: vms ?? NONE }, met);
    }
  }

  async #readVmsOf(reserved: Reservation): Promise<void> {
    reserved.vms = await readVms(this.#xenstore, reserved.user.domid);
  }
}
