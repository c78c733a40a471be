// SPDX-License-Identifier: Apache-2.0
// What is wished for a VBD beyond what its nodes say at the moment: to be closed, and why, until it
// is; and which of the toolstack's nodes were offered or refused.
import type { XenbusStateName } from '../blkif/xenbus_state.ts';
import type { View } from './device.ts';
import type { OurState } from './info.ts';
import type { Wish } from './states.ts';

export class Intent {
  readonly #closeMs: number;
  readonly #now: () => number;
  #closeReason: string | undefined;
  #closeDeadline: number | undefined;
  #offered: string | undefined;
  #refused: string | undefined;

  /** `closeMs`: what a frontend gets to close; `now` in milliseconds, monotonic. */
  constructor(closeMs: number, now: () => number = () => performance.now()) {
    this.#closeMs = closeMs;
    this.#now = now;
  }

  get closeReason(): string | undefined {
    return this.#closeReason;
  }

  /** The first reason counts. */
  close(reason: string): void {
    this.#closeReason ??= reason;
  }

  /** It is Closed: what comes now is a new life. */
  closed(): void {
    this.#closeReason = undefined;
    this.#closeDeadline = undefined;
    this.#refused = undefined;
  }

  wish(view: View, ours: OurState): Wish {
    const node = view.backend.state;
    const isOver = ours === 'Closing' || ours === 'Closed';
    if ((node === 'Closing' || node === 'Closed') && !isOver)
      this.close('the toolstack removes it');
    // A toolstack that takes a device offline without closing it leaves the end to the frontend.
    const inUse = ours === 'Connected' || ours === 'Left';
    const offline = view.backend.toolstack.online === false && !inUse;
    if (this.#closeReason === undefined && !offline) return 'serve';
    if (ours !== 'Closed') this.#closeDeadline ??= this.#now() + this.#closeMs;
    return 'close';
  }

  /** Milliseconds until the frontend's time is over; undefined: nobody waits for it. */
  get patienceMs(): number | undefined {
    if (this.#closeDeadline === undefined) return undefined;
    return Math.max(0, this.#closeDeadline - this.#now());
  }

  /** A frontend that does not answer in time counts as gone. */
  frontend(view: View): XenbusStateName {
    return this.patienceMs === 0 ? 'Unknown' : view.frontend;
  }

  offered(view: View): void {
    this.#offered = offerInputs(view);
    this.#refused = undefined;
  }

  refused(view: View): void {
    this.#refused = offerInputs(view);
    this.#offered = undefined;
  }

  /** The same nodes would be refused again. */
  isRefused(view: View): boolean {
    return this.#refused === offerInputs(view);
  }

  /** The toolstack changed its mind since the offer, such as by putting a disc into a drive. */
  isStale(view: View): boolean {
    return this.#offered !== offerInputs(view);
  }
}

/** What an offer depends on; equal texts for equal offers. */
function offerInputs(view: View): string {
  const { online, frontend, ...inputs } = view.backend.toolstack;
  return JSON.stringify([inputs, view.backend.problem?.message]);
}
