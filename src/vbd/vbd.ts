// SPDX-License-Identifier: Apache-2.0
// One VBD, from the day its directory appears until it is gone. Watches only mark it; a reconcile
// reads everything anew, asks the table in states.ts what to do, and does it. One thing at a time.
import type { Logger } from 'pino';
import { FRONTEND_NODES } from '../blkif/features.ts';
import type { VbdLatency } from '../datapath/binding.ts';
import { DatapathError } from '../datapath/datapath.ts';
import { RingdiskError } from '../errors.ts';
import type { Watch } from '../xenstore/client.ts';
import { backendDir, backendErrorNode } from '../xenstore/paths.ts';
import { beginClose, finishClose, letGo, letGoOfMedium } from './close.ts';
import { connect, offer } from './connect.ts';
import { type Device, messageOf, readView, type VbdServices, type View } from './device.ts';
import { clearError, publishRefusal, writeError } from './error_nodes.ts';
import { describeVbd, type OurState, type VbdId, type VbdInfo, vbdName } from './info.ts';
import { Intent } from './intent.ts';
import { LimitedLog } from './rate_limit.ts';
import { isInUse, reattach, tellNews } from './reattach.ts';
import { resize, verify } from './run.ts';
import { type Action, decide, type Wish } from './states.ts';
import { Turns } from './turns.ts';

export class Vbd {
  readonly id: VbdId;
  readonly name: string;
  readonly #device: Device;
  readonly #intent: Intent;
  readonly #turns = new Turns(() => this.#reconcileSafely());
  readonly #onGone: () => void;
  /** The directory has been seen, and what a former daemon left there has been taken in. */
  #adopted = false;
  #takenOver = false;
  /** It has been taken over, and xenstore does not know yet. */
  #hasNews = false;
  #settle: () => void = () => {};
  readonly #settled = new Promise<void>((resolve) => {
    this.#settle = resolve;
  });
  #stopping = false;
  #frontendWatch: Watch | undefined;
  #view: View | undefined;

  /** `onGone`: the directory is gone and nothing is held any more; this object is done with. */
  constructor(id: VbdId, services: VbdServices, log: Logger, onGone: () => void) {
    this.id = id;
    this.name = vbdName(id);
    this.#onGone = onGone;
    this.#intent = new Intent(services.timing.closeMs);
    this.#device = {
      id,
      services,
      log: new LimitedLog(log),
      directory: backendDir(services.backendDomid, id),
      errorNode: backendErrorNode(services.backendDomid, id),
      state: 'Initialising',
      medium: undefined,
      offer: undefined,
      link: undefined,
      recorded: services.records.has(id),
      fencedSince: undefined,
      failing: undefined,
      lettingGo: undefined,
      counters: undefined,
      error: undefined,
    };
    this.mark();
  }

  /** There is a directory for it, as far as is known. */
  get isPresent(): boolean {
    return this.#view !== undefined;
  }

  /** Resolves when it has been found out: whether a former daemon's VBD has been taken over. */
  async takenOver(): Promise<boolean> {
    await this.#settled;
    return this.#takenOver;
  }

  /** Something may have changed. Cheap, and as often as you like. */
  mark(): void {
    this.#turns.mark();
  }

  info(): VbdInfo {
    return describeVbd(this.#device, this.#view);
  }

  /** The number of the reactor that serves each queue; none while not connected. */
  reactors(): number[] {
    return this.#device.link?.connection.reactors() ?? [];
  }

  /** While connected. */
  latency(): VbdLatency | undefined {
    return this.#device.link?.connection.latency();
  }

  /** See run.ts. */
  async resize(): Promise<VbdInfo> {
    await this.#turns.exclusive(() => resize(this.#device));
    return this.info();
  }

  /**
   * Closes the connection and resolves when nothing of it is held any more. The frontend may come
   * back. Throws VBD_NOT_READY where nothing is connected.
   */
  async disconnect(): Promise<VbdInfo> {
    const { state } = this.#device;
    if (state !== 'Connected' && state !== 'Closing' && state !== 'Left') {
      throw new RingdiskError('VBD_NOT_READY', `The VBD is ${state}, not Connected.`);
    }
    this.#intent.close('the operator disconnects it');
    this.mark();
    await this.#turns.until(() => this.#device.state === 'Closed');
    await this.#device.lettingGo;
    return this.info();
  }

  /** Looks at nothing any more; what is connected goes on until the process ends. */
  leave(): void {
    this.#stopping = true;
    this.#turns.end();
    this.#settle();
  }

  /**
   * Ends this object: closes what is connected and resolves when nothing is held any more. A VBD
   * that is not connected stays as it is.
   */
  async stop(): Promise<void> {
    this.#stopping = true;
    if (this.#device.link) {
      this.#intent.close('the daemon stops');
      this.mark();
      const { closeMs, letGoMs, retryMs } = this.#device.services.timing;
      const isClosed = () => !this.#device.link && this.#device.state === 'Closed';
      // Bounded: without xenstore there is no Closed, but what is held is let go of all the same.
      await this.#turns.until(isClosed, closeMs + letGoMs + retryMs);
    }
    await this.#turns.exclusive(async () => {
      await this.#end();
      // The record of a VBD that could not be taken over is the next daemon's to judge.
      if (this.#device.link) letGo(this.#device);
      letGoOfMedium(this.#device);
    });
    await this.#device.lettingGo;
  }

  async #reconcileSafely(): Promise<void> {
    try {
      await this.#reconcile();
    } catch (error) {
      this.#device.log.error({ error: messageOf(error) }, 'xenstore failed; trying again');
      this.#turns.markIn(this.#device.services.timing.retryMs);
    }
  }

  async #reconcile(): Promise<void> {
    const device = this.#device;
    const view = await this.#look();
    if (!view) return this.#disappear();
    await this.#followFrontend(view.frontendDir);
    if (this.#hasNews) await tellNews(device, view);
    this.#hasNews = false;
    // What is not connected stays as it is when the daemon stops.
    if (this.#stopping && !device.link) return;
    if (view.frontendProblem) await this.#refuseFrontend(view.frontendProblem);
    // The toolstack asks after we closed, and waits for an answer.
    if (device.state === 'Closed' && view.backend.state === 'Closing') device.state = 'Closing';
    const wish = this.#intent.wish(view, device.state);
    const action = decide(this.#stateForTable(view, wish), this.#intent.frontend(view), wish);
    if (await this.#act(action, view, wish)) this.mark();
    else if (this.#intent.patienceMs !== undefined) this.#turns.markIn(this.#intent.patienceMs);
  }

  /** Reads all nodes. The first time it also takes in what a former daemon left behind. */
  async #look(): Promise<View | undefined> {
    if (this.#adopted) {
      this.#view = await readView(this.#device);
      return this.#view;
    }
    const { recorded, services } = this.#device;
    if (!recorded) return this.#lookFirst();
    const view = await services.takeOvers.run(this.id, () => this.#lookFirst());
    // All else can wait until other guests are served again.
    await services.takeOvers.idle();
    return view;
  }

  async #lookFirst(): Promise<View | undefined> {
    const view = await readView(this.#device);
    this.#view = view;
    if (view) await this.#adopt(view);
    return view;
  }

  /** True: look again, there may be more to do. */
  async #act(action: Action, view: View, wish: Wish): Promise<boolean> {
    const device = this.#device;
    switch (action) {
      case 'wait':
        return false;
      case 'ignore':
        device.log.warn({ frontend: view.frontend }, 'the frontend is in an unexpected state');
        return false;
      case 'offer':
        return this.#offer(view);
      case 'connect':
        // No request of an earlier life may meet the new rings.
        if (device.lettingGo) return this.#markAfter(device.lettingGo);
        return this.#orRefuse(() => connect(device, view));
      case 'verify':
        return this.#orRefuse(() => verify(device, view));
      case 'begin-close':
        device.log.info({ frontend: view.frontend, reason: this.#intent.closeReason }, 'closing');
        await beginClose(device, view);
        return true;
      case 'finish-close':
        await finishClose(device, view, wish);
        this.#intent.closed();
        this.#turns.cancelTimer();
        return true;
    }
  }

  async #offer(view: View): Promise<boolean> {
    if (this.#intent.isRefused(view)) return false;
    try {
      if (!(await offer(this.#device, view))) return false;
    } catch (error) {
      if (!isRefusal(error)) throw error;
      this.#intent.refused(view);
      await publishRefusal(this.#device, view, error.message);
      return false;
    }
    this.#intent.offered(view);
    await clearError(this.#device);
    return true;
  }

  async #orRefuse(step: () => Promise<boolean>): Promise<boolean> {
    try {
      return await step();
    } catch (error) {
      if (!isRefusal(error)) throw error;
      await this.#refuseFrontend(error);
      return true;
    }
  }

  /** The guest's nodes, or a data path that cannot serve them: the VBD is to be closed. */
  async #refuseFrontend(error: Error): Promise<void> {
    const { state } = this.#device;
    if (state === 'Closed' || state === 'Initialising' || this.#intent.closeReason) return;
    this.#intent.close(error.message);
    await writeError(this.#device, error.message, 'cannot be connected');
  }

  /** Takes in what a former daemon left behind. */
  async #adopt(view: View): Promise<void> {
    const device = this.#device;
    const { state } = view.backend;
    device.log.info({ state, frontend: view.frontend }, 'found');
    if (state === 'Closing') this.#intent.close('it was closing when it was found');
    // Where xenstore failed right after a take-over, this is the second time.
    device.state = device.link ? 'Connected' : adoptedState(view);
    if (state === 'Connected') this.#intent.offered(view);
    const isLeft = device.state === 'Left' && view.frontend === 'Connected';
    if (!device.link && isInUse(view) && (device.recorded || isLeft)) {
      this.#takenOver = await reattach(device, view);
      this.#hasNews = this.#takenOver;
    }
    this.#adopted = true;
    this.#settle();
  }

  #stateForTable(view: View, wish: Wish): OurState {
    const { state } = this.#device;
    if (wish === 'close' || state !== 'InitWait' || !this.#intent.isStale(view)) return state;
    const isBeforeConnect =
      view.frontend === 'Initialising' ||
      view.frontend === 'InitWait' ||
      view.frontend === 'Initialised';
    return isBeforeConnect ? 'Initialising' : state;
  }

  async #followFrontend(directory: string | undefined): Promise<void> {
    const path = directory && `${directory}/${FRONTEND_NODES.state.node}`;
    if (this.#frontendWatch?.path === path) return;
    await this.#frontendWatch?.remove();
    this.#frontendWatch = undefined;
    if (!path) return;
    this.#frontendWatch = await this.#device.services.xenstore.watch(path, () => this.mark());
  }

  /** The toolstack removed the directory. It may come back before we have let go of everything. */
  async #disappear(): Promise<void> {
    const device = this.#device;
    if (this.#adopted) device.log.info({}, 'removed');
    this.#adopted = false;
    this.#intent.closed();
    this.#turns.cancelTimer();
    device.state = 'Initialising';
    device.error = undefined;
    await this.#followFrontend(undefined);
    letGo(device);
    letGoOfMedium(device);
    if (device.lettingGo) {
      this.#markAfter(device.lettingGo);
      return;
    }
    if (this.#turns.isMarked) return;
    await this.#end();
    this.#onGone();
  }

  #markAfter(lettingGo: Promise<void>): false {
    void lettingGo.then(() => this.mark());
    return false;
  }

  async #end(): Promise<void> {
    this.#turns.end();
    this.#settle();
    await this.#frontendWatch?.remove();
    this.#frontendWatch = undefined;
  }
}

/** What we are in a directory that we did not write ourselves. */
function adoptedState(view: View): OurState {
  switch (view.backend.state) {
    case 'Connected':
      return 'Left';
    case 'Closing':
    case 'Closed':
      return view.backend.state;
    default:
      // Also InitWait: the target has to be opened before a frontend may answer the offer.
      return 'Initialising';
  }
}

/** Errors that are answered with a refusal; others are xenstore's and pass. */
function isRefusal(error: unknown): error is Error {
  return error instanceof RingdiskError || error instanceof DatapathError;
}
