// SPDX-License-Identifier: Apache-2.0
// One VBD, from the day its directory appears until it is gone. Watches only mark it; a reconcile
// reads everything anew, asks the table in states.ts what to do, and does it. One thing at a time,
// and nothing that waits for a medium: that runs beside and marks the VBD when it is over.
import type { Logger } from 'pino';
import { FRONTEND_NODES } from '../blkif/features.ts';
import type { VbdLatency } from '../datapath/counters.ts';
import { RingdiskError } from '../errors.ts';
import { type Watch, XenstoreError } from '../xenstore/client.ts';
import { frontendsFolder } from '../xenstore/paths.ts';
import { deferred, isOverWithin } from './beside.ts';
import {
  abandonOpening,
  beginClose,
  finishClose,
  isUnplugged,
  letGo,
  letGoOfMedium,
  tellUnplugged,
  whyInUse,
} from './close.ts';
import {
  type Device,
  isMadeAnew,
  makeDevice,
  messageOf,
  newScriptPatience,
  readView,
  type VbdServices,
  type View,
} from './device.ts';
import { clearError, publishRefusal, writeError } from './error_nodes.ts';
import { changeFill, type FillChange, type FillInfo } from './fill.ts';
import { isOurs, mayBePrepared } from './hotplug.ts';
import { type VbdId, vbdName } from './id.ts';
import { describeVbd, type VbdInfo } from './info.ts';
import { Intent } from './intent.ts';
import type { LimitChange } from './limits.ts';
import { isOtherTarget } from './media.ts';
import { type MirrorCommand, mirrorCommand } from './mirror.ts';
import type { RateLimit } from './rate_limit.ts';
import { isInUse, reattach, reserveRecorded, tellLateTakeOver, tellNews } from './reattach.ts';
import { limit, measure, rememberLate, resize, verify } from './run.ts';
import { type Action, adoptedState, decide, type TableState, type Wish } from './states.ts';
import { isRefusal, tryConnect, tryOffer } from './tries.ts';
import { chargeRequests, Turns } from './turns.ts';

export class Vbd {
  readonly id: VbdId;
  readonly name: string;
  readonly #device: Device;
  readonly #intent: Intent;
  readonly #turns: Turns;
  readonly #onGone: () => void;
  /** The directory has been seen, and what a former daemon left there has been taken in. */
  #adopted = false;
  #takenOver = false;
  /** It has been taken over, and xenstore does not know yet. */
  #hasNews = false;
  readonly #attempted = deferred();
  readonly #settled = deferred();
  #stopping = false;
  #isUnplugged = false;
  #frontendWatch: Watch | undefined;
  #view: View | undefined;

  /**
   * `pace`: of the looks that its guest may cause. `onGone`: the directory is gone and nothing is
   * held any more; this object is done with.
   */
  constructor(id: VbdId, services: VbdServices, log: Logger, pace: RateLimit, onGone: () => void) {
    this.id = id;
    this.name = vbdName(id);
    this.#onGone = onGone;
    this.#intent = new Intent(services.timing.closeMs);
    this.#turns = new Turns(() => this.#reconcileSafely(), pace);
    this.#device = makeDevice(id, services, log, {
      mark: () => this.mark(),
      markIn: (milliseconds) => this.#turns.markIn(milliseconds),
      charge: (requests) => chargeRequests(pace, requests),
      inTurn: (step) => this.#turns.exclusive(step),
    });
    reserveRecorded(this.#device);
    this.mark();
  }

  /** There is a directory for it, as far as is known, and it is ours to serve. */
  get isPresent(): boolean {
    return this.#view !== undefined;
  }

  /** The guest's name of the disk. */
  get vdev(): string | undefined {
    return this.#view?.backend.toolstack.dev;
  }

  /** Resolves when a former daemon's VBD has been taken over, cannot be, or makes others wait. */
  attempted(): Promise<void> {
    return this.#attempted.promise;
  }

  /** Resolves when it has been found out: whether a former daemon's VBD has been taken over. */
  async takenOver(): Promise<boolean> {
    await this.#settled.promise;
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

  /** Changes the pace of a disk that is being filled. Throws FILL_NONE. */
  fill(change: FillChange): FillInfo {
    return changeFill(this.#device, change);
  }

  /** See mirror.ts. */
  async mirror(command: MirrorCommand): Promise<VbdInfo> {
    await mirrorCommand(this.#device, command);
    return this.info();
  }

  /** See run.ts. */
  async resize(): Promise<VbdInfo> {
    const sectors = await measure(this.#device);
    await this.#turns.exclusive(() => resize(this.#device, sectors));
    return this.info();
  }

  async limit(change: LimitChange): Promise<VbdInfo> {
    await this.#turns.exclusive(() => limit(this.#device, change));
    return this.info();
  }

  /**
   * Tries at once what failed and waits for another try. Resolves when it is known what became of
   * it, or its medium has not answered in time. Throws VBD_NOT_READY where nothing has failed.
   */
  async retry(): Promise<VbdInfo> {
    const device = this.#device;
    if (device.link) {
      throw new RingdiskError('VBD_NOT_READY', `The VBD is ${device.state}: nothing has failed.`);
    }
    device.services.takeOvers.forgive(this.id);
    if (device.orphan === 'hopeless' && device.recorded) device.orphan = 'retrying';
    device.backoff.reset();
    this.#intent.forgetRefusal();
    this.mark();
    const isClaiming = () => device.claiming !== undefined && !device.claiming.outcome;
    const isOver = () => !this.#turns.isMarked && !device.opening && !isClaiming();
    await this.#turns.until(isOver, device.services.timing.openMs);
    return this.info();
  }

  /**
   * Closes the connection and resolves when nothing of it is held any more. The frontend may come
   * back. Without `force` the frontend is asked, and keeps the disk for as long as it does not let
   * go: VBD_BUSY after a while; with it, it loses the disk. Throws VBD_NOT_READY where nothing is
   * connected.
   */
  async disconnect({ force }: { force: boolean }): Promise<VbdInfo> {
    const device = this.#device;
    const { state } = device;
    if (state !== 'Connected' && state !== 'Closing' && state !== 'Left') {
      throw new RingdiskError('VBD_NOT_READY', `The VBD is ${state}, not Connected.`);
    }
    const { askMs, letGoMs } = device.services.timing;
    this.#intent.close('the operator disconnects it', { bounded: force });
    this.mark();
    const isClosed = () => device.state === 'Closed' || this.#view === undefined;
    await this.#turns.until(isClosed, askMs);
    if (!isClosed()) throw new RingdiskError('VBD_BUSY', whyInUse(this.#view, askMs));
    if (!(await isOverWithin(device.lettingGo, force ? letGoMs : askMs))) {
      throw new RingdiskError(
        'VBD_BUSY',
        'It is closed for the guest, but its last I/O is not over: its storage hangs.',
      );
    }
    return this.info();
  }

  /** Looks at nothing any more; what is connected goes on until the process ends. */
  leave(): void {
    this.#stopping = true;
    this.#turns.end();
    this.#settle(true);
  }

  /**
   * Ends this object: closes what is connected and resolves when nothing is held any more, or to
   * false when its storage hangs. A VBD that is not connected stays as it is.
   */
  async stop(): Promise<boolean> {
    this.#stopping = true;
    const device = this.#device;
    // What is just being connected is connected after that, and nothing more is.
    await this.#turns.exclusive(async () => {});
    const { closeMs, letGoMs, retryMs } = device.services.timing;
    if (device.link) {
      this.#intent.close('the daemon stops', { bounded: true });
      this.mark();
      const isClosed = () => !device.link && device.state === 'Closed';
      // Bounded: without xenstore there is no Closed, but what is held is let go of all the same.
      await this.#turns.until(isClosed, closeMs + letGoMs + retryMs);
    }
    await this.#turns.exclusive(async () => {
      await this.#end();
      // The record of a VBD that could not be taken over is the next daemon's to judge.
      if (device.link) letGo(device);
      letGoOfMedium(device);
    });
    const held = [device.lettingGo, device.closing, device.mirrorEnding];
    return isOverWithin(Promise.all(held), letGoMs);
  }

  async #reconcileSafely(): Promise<void> {
    try {
      await this.#reconcile();
    } catch (error) {
      this.#device.log.error({ error: messageOf(error) }, 'xenstore failed; trying again');
      this.#turns.markIn(this.#device.services.timing.retryMs);
      await this.#tellOfQuota(error);
    }
  }

  /** A quota that is used up stays so: the toolstack should not wait in vain for a reason. */
  async #tellOfQuota(error: unknown): Promise<void> {
    const isQuota = error instanceof XenstoreError && error.code === 'EQUOTA';
    if (!isQuota || !this.#view || this.#device.state !== 'Initialising') return;
    if (this.#device.error === error.message) return;
    // What cannot be told is tried again with all else.
    await publishRefusal(this.#device, this.#view, error.message).catch(() => {});
  }

  async #reconcile(): Promise<void> {
    const device = this.#device;
    const before = this.#view?.frontend;
    const wasAdopted = this.#adopted;
    const view = await this.#look();
    if (view === 'foreign') return;
    if (!view) return this.#disappear();
    await this.#followFrontend(view.frontendDir);
    if (before !== view.frontend) device.backoff.hurry();
    // What is not connected stays as it is when the daemon stops.
    if (this.#stopping && !device.link) return;
    if (wasAdopted) await this.#recover(view);
    if (this.#hasNews) await tellNews(device, view);
    this.#hasNews = false;
    if (view.frontendProblem) await this.#refuseFrontend(view.frontendProblem);
    await this.#step(view);
    rememberLate(this.#device);
    await this.#tellUnplugged(view);
  }

  async #step(view: View): Promise<void> {
    const device = this.#device;
    // The toolstack asks after we closed, and waits for an answer.
    if (device.state === 'Closed' && view.backend.state === 'Closing') device.state = 'Closing';
    const inUse = device.link !== undefined || device.orphan === 'retrying';
    const wish = this.#intent.wish(view, device.state, inUse);
    const state = await this.#stateForTable(view, wish);
    const action = decide(state, this.#intent.frontend(view), wish);
    if (await this.#act(action, view, wish)) this.mark();
    else if (this.#intent.patienceMs !== undefined) this.#turns.markIn(this.#intent.patienceMs);
  }

  /** Reads all nodes. The first time it also takes in what a former daemon left behind. */
  async #look(): Promise<View | 'foreign' | undefined> {
    const device = this.#device;
    if (this.#adopted) {
      this.#view = await readView(device);
      return this.#view;
    }
    if (!device.recorded) {
      if (!(await isOurs(device))) return 'foreign';
      return this.#lookFirst();
    }
    const { takeOvers } = device.services;
    const view = await takeOvers.run(this.id, () => this.#lookFirst());
    // All else can wait until other guests are served again.
    await takeOvers.idle();
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
        return tryOffer(device, view, this.#intent);
      case 'connect':
        // No request of an earlier life may meet the new rings.
        if (device.lettingGo) return this.#markAfter(device.lettingGo);
        return this.#orRefuse(() => tryConnect(device, view));
      case 'verify':
        return this.#orRefuse(() => verify(device, view));
      case 'begin-close':
        device.log.info({ frontend: view.frontend, reason: this.#intent.closeReason }, 'closing');
        await beginClose(device, view);
        return true;
      case 'finish-close':
        await finishClose(device, view, wish);
        this.#intent.closed();
        return true;
    }
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
    this.#intent.close(error.message, { bounded: true });
    await writeError(this.#device, error.message, 'cannot be connected');
  }

  /** Takes in what a former daemon left behind. */
  async #adopt(view: View): Promise<void> {
    const device = this.#device;
    const { state } = view.backend;
    device.log.info({ state, frontend: view.frontend }, 'found');
    if (state === 'Closing') {
      this.#intent.close('it was closing when it was found', { bounded: false });
    }
    // Where xenstore failed right after a take-over, this is the second time.
    device.state = device.link ? 'Connected' : adoptedState(state);
    if (state === 'Connected') this.#intent.offered(view);
    if (device.state === 'Closed') letGo(device);
    if (!isInUse(view)) device.services.openTargets.release(this.name);
    const isLeft = device.state === 'Left' && view.frontend === 'Connected';
    if (!device.link && isInUse(view) && (device.recorded || isLeft)) {
      device.orphan = 'retrying';
      await this.#attempt(view);
    }
    this.#adopted = true;
    this.#settle();
  }

  /** Another try to take over what a former daemon served. */
  async #recover(view: View): Promise<void> {
    const device = this.#device;
    if (device.orphan !== 'retrying' || device.link || !isInUse(view)) return;
    if (!device.opening && device.backoff.dueMs > 0) {
      device.markIn(device.backoff.dueMs);
      return;
    }
    await device.services.takeOvers.run(this.id, () => this.#attempt(view));
    this.#settle();
  }

  async #attempt(view: View): Promise<void> {
    const device = this.#device;
    switch (await reattach(device, view)) {
      case 'taken over':
        this.#takenOver = true;
        this.#hasNews = true;
        device.backoff.reset();
        return;
      case 'waiting':
        tellLateTakeOver(device);
        return;
      case 'failed':
        device.backoff.failed();
        if (device.orphan === 'retrying') device.markIn(device.backoff.dueMs);
    }
  }

  #settle(isEnd = false): void {
    this.#attempted.resolve();
    const isWaiting = this.#device.orphan === 'retrying' && this.#device.opening !== undefined;
    if (isEnd || !isWaiting) this.#settled.resolve();
  }

  async #stateForTable(view: View, wish: Wish): Promise<TableState> {
    const device = this.#device;
    const { state } = device;
    if (state === 'Left') return device.orphan === 'retrying' ? 'Orphaned' : 'Left';
    if (wish === 'close' || state !== 'InitWait') return state;
    if (!(await this.#isOfferOver(view))) return state;
    const isBeforeConnect =
      view.frontend === 'Initialising' ||
      view.frontend === 'InitWait' ||
      view.frontend === 'Initialised';
    return isBeforeConnect ? 'Initialising' : state;
  }

  async #isOfferOver(view: View): Promise<boolean> {
    const device = this.#device;
    if (isMadeAnew(device, view)) {
      device.script = newScriptPatience();
      return true;
    }
    if (this.#intent.isStale(view) || isOtherTarget(device, view)) return true;
    return mayBePrepared(device);
  }

  async #followFrontend(directory: string | undefined): Promise<void> {
    const path = directory && `${directory}/${FRONTEND_NODES.state.node}`;
    if (this.#frontendWatch?.path === path) return;
    await this.#frontendWatch?.remove();
    this.#frontendWatch = undefined;
    if (!directory || !path) return;
    const { frontends } = this.#device.services;
    const folder = frontendsFolder(directory);
    this.#frontendWatch = await frontends.follow(folder, path, () => this.#turns.markByGuest());
  }

  /** The guest may have closed long before the toolstack takes the device offline. */
  async #tellUnplugged(view: View): Promise<void> {
    const device = this.#device;
    if (device.state !== 'Closed' || !isUnplugged(view)) {
      this.#isUnplugged = false;
      return;
    }
    if (this.#isUnplugged) return;
    if (device.lettingGo) this.#markAfter(device.lettingGo);
    else {
      await tellUnplugged(device, view);
      this.#isUnplugged = true;
    }
  }

  /** The toolstack removed the directory. It may come back before we have let go of everything. */
  async #disappear(): Promise<void> {
    const device = this.#device;
    if (this.#adopted) {
      device.log.info({}, 'removed');
      await clearError(device);
    }
    this.#adopted = false;
    this.#intent.closed();
    this.#isUnplugged = false;
    device.state = 'Initialising';
    device.error = undefined;
    device.limits.operator = undefined;
    device.isUnprepared = false;
    device.script = newScriptPatience();
    device.backoff.reset();
    await this.#followFrontend(undefined);
    letGo(device);
    letGoOfMedium(device);
    const held = device.lettingGo ?? device.closing;
    if (held) {
      this.#markAfter(held);
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
    this.#settle(true);
    abandonOpening(this.#device);
    await this.#frontendWatch?.remove();
    this.#frontendWatch = undefined;
  }
}
