// SPDX-License-Identifier: Apache-2.0
// What is wished for a VBD beyond what its nodes say at the moment: to be closed, and why, until it
// is; and which of the toolstack's nodes were offered or refused.
import type { XenbusStateName } from '../blkif/xenbus_state.ts';
import type { View } from './device.ts';
import type { OurState, Wish } from './states.ts';

export class Intent {
  readonly #closeMs: number;
  readonly #now: () => number;
  #closeReason: string | undefined;
  #isBounded = false;
  #closeDeadline: number | undefined;
  #offered: string | undefined;
  #refused: { readonly inputs: string; readonly isFinal: boolean } | undefined;

  /** `closeMs`: of a frontend that is made to close; `now` in milliseconds, monotonic. */
  constructor(closeMs: number, now: () => number = () => performance.now()) {
    this.#closeMs = closeMs;
    this.#now = now;
  }

  get closeReason(): string | undefined {
    return this.#closeReason;
  }

  /**
   * The first reason counts. `bounded`: a frontend that does not close in time loses a disk that it
   * uses; else it keeps it until it lets go.
   */
  close(reason: string, { bounded }: { bounded: boolean }): void {
    this.#closeReason ??= reason;
    this.#isBounded ||= bounded;
  }

  /** It is Closed: what comes now is a new life. */
  closed(): void {
    this.#closeReason = undefined;
    this.#isBounded = false;
    this.#closeDeadline = undefined;
    this.#refused = undefined;
  }

  /** `inUse`: there are requests that a guest waits for, or a former daemon's that may be. */
  wish(view: View, ours: OurState, inUse: boolean): Wish {
    const node = view.backend.state;
    const isOver = ours === 'Closing' || ours === 'Closed';
    if ((node === 'Closing' || node === 'Closed') && !isOver)
      this.close('the toolstack removes it', { bounded: false });
    // A toolstack that takes a device offline without closing it leaves the end to the frontend.
    const isConnected = ours === 'Connected' || ours === 'Left';
    const { online, shutdownRequest } = view.backend.toolstack;
    const isForced = shutdownRequest === 'force';
    if (shutdownRequest !== undefined && !isOver)
      this.close('the toolstack asks for its end', { bounded: isForced });
    const offline = (online === false && !isConnected) || shutdownRequest !== undefined;
    if (this.#closeReason === undefined && !offline) return 'serve';
    // libxl fails a removal that the guest refuses; one that is forced removes the frontend.
    const isClocked = this.#isBounded || !inUse;
    if (ours !== 'Closed' && isClocked) this.#closeDeadline ??= this.#now() + this.#closeMs;
    if (ours !== 'Closed' && isForced) this.#closeDeadline = this.#now();
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

  /** `isFinal`: as long as the nodes are the same, it would be refused again. */
  refused(view: View, isFinal: boolean): void {
    this.#refused = { inputs: offerInputs(view), isFinal };
    this.#offered = undefined;
  }

  /** Whether these very nodes were refused: for good, or for the environment's reasons. */
  refusal(view: View): 'final' | 'for now' | undefined {
    if (this.#refused?.inputs !== offerInputs(view)) return undefined;
    return this.#refused.isFinal ? 'final' : 'for now';
  }

  /** Somebody asks for another try. */
  forgetRefusal(): void {
    this.#refused = undefined;
  }

  /** The toolstack changed its mind since the offer, such as by putting a disc into a drive. */
  isStale(view: View): boolean {
    return this.#offered !== offerInputs(view);
  }
}

/** What an offer depends on; equal texts for equal offers. */
function offerInputs(view: View): string {
  const { online, shutdownRequest, frontend, limits, ...inputs } = view.backend.toolstack;
  return JSON.stringify([inputs, view.backend.problem?.message]);
}
