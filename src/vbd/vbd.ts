// SPDX-License-Identifier: Apache-2.0
// One VBD, from the day its directory appears until it is gone. Watches only mark it; a reconcile
// reads everything anew, asks the table in states.ts what to do, and does it. One thing at a time.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { publish } from '../blkif/backend_nodes.ts';
import { BACKEND_NODES, FRONTEND_NODES } from '../blkif/features.ts';
import type { XenbusStateName } from '../blkif/xenbus_state.ts';
import { DatapathError } from '../datapath/datapath.ts';
import { RingdiskError } from '../errors.ts';
import type { Watch } from '../xenstore/client.ts';
import { backendDir, backendErrorNode } from '../xenstore/paths.ts';
import { beginClose, finishClose, letGo, letGoOfMedium } from './close.ts';
import { connect, offer } from './connect.ts';
import { type Device, messageOf, readView, type VbdServices, type View } from './device.ts';
import { leave, resume } from './drained.ts';
import { type VbdId, type VbdInfo, vbdName } from './info.ts';
import { LimitedLog, RateLimit } from './rate_limit.ts';
import { resize, verify } from './run.ts';
import { type Action, decide, type Wish } from './states.ts';

// A guest may write its nodes in a loop; each reconcile costs xenstored some twenty requests.
const RECONCILES_PER_SECOND = 50;
const RECONCILE_BURST = 100;

export class Vbd {
  readonly id: VbdId;
  readonly name: string;
  readonly #device: Device;
  readonly #onGone: () => void;
  readonly #pace = new RateLimit(RECONCILES_PER_SECOND, RECONCILE_BURST);
  readonly #waiters = new Set<() => void>();
  #turn: Promise<unknown> = Promise.resolve();
  #marked = false;
  #ended = false;
  /** The directory has been seen, and what a former daemon left there has been taken in. */
  #adopted = false;
  #stopping = false;
  /** Why we want the connection closed, until it is. */
  #closeReason: string | undefined;
  #closeDeadline: number | undefined;
  /** The toolstack's nodes that were refused; the same ones are not tried again. */
  #refused: string | undefined;
  /** The toolstack's nodes as of the last offer. */
  #offered: string | undefined;
  #frontendWatch: Watch | undefined;
  #view: View | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** `onGone`: the directory is gone and nothing is held any more; this object is of no more use. */
  constructor(id: VbdId, services: VbdServices, log: Logger, onGone: () => void) {
    this.id = id;
    this.name = vbdName(id);
    this.#onGone = onGone;
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
      lettingGo: undefined,
      counters: undefined,
      error: undefined,
    };
    this.mark();
  }

  /** Something may have changed. Cheap, and as often as you like. */
  mark(): void {
    if (this.#marked || this.#ended) return;
    this.#marked = true;
    void this.#exclusive(async () => {
      const delay = this.#pace.delayMs();
      if (delay > 0) await sleep(delay);
      this.#pace.take();
      this.#marked = false;
      await this.#reconcileSafely();
    });
  }

  info(): VbdInfo {
    const { state, medium, link, error } = this.#device;
    const { toolstack } = this.#view?.backend ?? {};
    const counters = link ? link.connection.counters() : this.#device.counters;
    return {
      name: this.name,
      ...this.id,
      state,
      frontendState: this.#view?.frontend ?? 'Unknown',
      readOnly: link?.agreement.readOnly ?? medium?.readOnly ?? toolstack?.mode === 'r',
      ...(toolstack?.dev !== undefined && { vdev: toolstack.dev }),
      ...(medium && {
        target: {
          spec: medium.params,
          kind: medium.spec.kind,
          path: medium.spec.path,
          capabilities: { ...medium.target.capabilities },
        },
      }),
      ...(link && { agreement: link.agreement }),
      ...(counters && { counters: { ...counters } }),
      ...(error !== undefined && { error }),
    };
  }

  /** See run.ts. */
  async resize(): Promise<VbdInfo> {
    await this.#exclusive(() => resize(this.#device));
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
    this.#closeReason ??= 'the operator disconnected it';
    this.mark();
    await this.#until(() => this.#device.state === 'Closed');
    await this.#device.lettingGo;
    return this.info();
  }

  /**
   * Ends this object: closes what is connected, or with `leave` drains it and leaves it to the next
   * daemon. Resolves when nothing is held any more. A VBD that is not connected stays as it is.
   */
  async stop(options: { leave: boolean }): Promise<void> {
    this.#stopping = true;
    if (options.leave) await this.#exclusive(() => leave(this.#device));
    if (this.#device.link) {
      this.#closeReason ??= 'the daemon stops';
      this.mark();
      await this.#until(() => this.#device.link === undefined && this.#device.state === 'Closed');
    }
    await this.#exclusive(async () => {
      await this.#end();
      await this.#release();
    });
  }

  async #reconcileSafely(): Promise<void> {
    if (this.#ended) return;
    try {
      await this.#reconcile();
    } catch (error) {
      this.#device.log.error({ error: messageOf(error) }, 'xenstore failed; trying again');
      this.#markLater(this.#device.services.timing.retryMs);
    }
    for (const waiter of [...this.#waiters]) waiter();
  }

  async #reconcile(): Promise<void> {
    const view = await readView(this.#device);
    this.#view = view;
    if (!view) return this.#disappear();
    await this.#followFrontend(view.frontendDir);
    if (!this.#adopted) await this.#adopt(view);
    if (this.#stopping && !this.#device.link && this.#device.state !== 'Closing') return;
    if (view.frontendProblem) await this.#refuseFrontend(view.frontendProblem);
    const wish = this.#wish(view);
    const action = decide(this.#stateForTable(view), this.#frontendForTable(view), wish);
    if (await this.#act(action, view, wish)) this.mark();
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
        return this.#orClose(() => connect(device, view));
      case 'verify':
        return this.#orClose(() => verify(device, view));
      case 'begin-close':
        device.log.info({ frontend: view.frontend, reason: this.#closeReason }, 'closing');
        await beginClose(device, view);
        return true;
      case 'finish-close':
        await finishClose(device, view, wish);
        this.#afterClose();
        return true;
    }
  }

  async #offer(view: View): Promise<boolean> {
    const wanted = offerInputs(view);
    if (this.#refused === wanted) return false;
    try {
      const done = await offer(this.#device, view);
      if (!done) return false;
    } catch (error) {
      if (!isRefusal(error)) throw error;
      this.#refused = wanted;
      await this.#refuseToolstack(messageOf(error));
      return false;
    }
    this.#refused = undefined;
    this.#offered = wanted;
    await this.#clearError();
    return true;
  }

  async #orClose(step: () => Promise<boolean>): Promise<boolean> {
    try {
      return await step();
    } catch (error) {
      if (!isRefusal(error)) throw error;
      await this.#refuseFrontend(error);
      return true;
    }
  }

  /** Takes in what a former daemon left behind. */
  async #adopt(view: View): Promise<void> {
    this.#adopted = true;
    const device = this.#device;
    device.log.info({ state: view.backend.state, frontend: view.frontend }, 'found');
    switch (view.backend.state) {
      case 'Connected':
        device.state = 'Left';
        if (view.frontend === 'Connected') await resume(device, view);
        this.#offered = offerInputs(view);
        return;
      case 'Closing':
      case 'Closed':
        device.state = view.backend.state;
        return;
      default:
        device.state = 'Initialising';
    }
  }

  #wish(view: View): Wish {
    const { state } = this.#device;
    const node = view.backend.state;
    const isOver = state === 'Closing' || state === 'Closed';
    if ((node === 'Closing' || node === 'Closed') && !isOver) {
      this.#closeReason ??= 'the toolstack removes it';
    }
    // A toolstack that takes a device offline without closing it lets the frontend end it.
    const inUse = state === 'Connected' || state === 'Left';
    const offline = view.backend.toolstack.online === false && !inUse;
    if (this.#closeReason === undefined && !offline) return 'serve';
    if (state !== 'Closed' && this.#closeDeadline === undefined) {
      const { closeMs } = this.#device.services.timing;
      this.#closeDeadline = performance.now() + closeMs;
      this.#markLater(closeMs);
    }
    return 'close';
  }

  #stateForTable(view: View): Device['state'] {
    const device = this.#device;
    // The toolstack asked after we had closed: it waits for an answer.
    if (device.state === 'Closed' && view.backend.state === 'Closing') device.state = 'Closing';
    // Changed before anything was connected, such as a disc put into a drive: offered anew.
    const stale = device.state === 'InitWait' && this.#offered !== offerInputs(view);
    return stale && view.frontend !== 'Unknown' ? 'Initialising' : device.state;
  }

  /** A frontend that does not answer in time counts as gone. */
  #frontendForTable(view: View): XenbusStateName {
    const overdue = this.#closeDeadline !== undefined && performance.now() >= this.#closeDeadline;
    if (!overdue) return view.frontend;
    this.#device.log.warn({ frontend: view.frontend }, 'the frontend did not close in time');
    return 'Unknown';
  }

  #afterClose(): void {
    this.#closeReason = undefined;
    this.#closeDeadline = undefined;
    this.#refused = undefined;
    clearTimeout(this.#timer);
  }

  /** The guest's nodes, or a data path that cannot serve them: the VBD is closed. */
  async #refuseFrontend(error: Error): Promise<void> {
    const { state } = this.#device;
    if (state === 'Closed' || state === 'Initialising' || this.#device.error === error.message)
      return;
    this.#closeReason ??= error.message;
    this.#device.log.error({ error: error.message }, 'cannot be connected');
    await this.#writeError(error.message);
  }

  /** The toolstack's nodes or the target: said where libxl and xenopsd look for it. */
  async #refuseToolstack(message: string): Promise<void> {
    const { services, directory, log } = this.#device;
    log.error({ error: message }, 'cannot be offered');
    await this.#writeError(message);
    const state = this.#view?.backend.state ?? 'Unknown';
    await publish(services.xenstore, directory, state, {
      hotplugStatus: 'error',
      hotplugError: message,
    });
  }

  async #writeError(message: string): Promise<void> {
    this.#device.error = message;
    await this.#device.services.xenstore.write(this.#device.errorNode, message);
  }

  async #clearError(): Promise<void> {
    if (this.#device.error === undefined) return;
    this.#device.error = undefined;
    const { xenstore } = this.#device.services;
    await xenstore.remove(this.#device.errorNode);
    await xenstore.remove(`${this.#device.directory}/${BACKEND_NODES.hotplugError.node}`);
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
    this.#offered = undefined;
    this.#afterClose();
    device.state = 'Initialising';
    device.error = undefined;
    await this.#followFrontend(undefined);
    letGo(device);
    letGoOfMedium(device);
    if (device.lettingGo) {
      void device.lettingGo.then(() => this.mark());
      return;
    }
    if (this.#marked) return;
    await this.#end();
    this.#onGone();
  }

  async #end(): Promise<void> {
    this.#ended = true;
    clearTimeout(this.#timer);
    await this.#frontendWatch?.remove();
    this.#frontendWatch = undefined;
    for (const waiter of [...this.#waiters]) waiter();
  }

  async #release(): Promise<void> {
    letGo(this.#device);
    letGoOfMedium(this.#device);
    await this.#device.lettingGo;
  }

  #markLater(milliseconds: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.mark(), milliseconds);
  }

  /** Runs `step` when everything before it is done. */
  #exclusive<T>(step: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(step);
    this.#turn = result.catch(() => undefined);
    return result;
  }

  /** Looks after every reconcile; also resolves when the VBD is gone. */
  #until(condition: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const check = () => {
        if (!condition() && !this.#ended) return;
        this.#waiters.delete(check);
        resolve();
      };
      this.#waiters.add(check);
      check();
    });
  }
}

/** What an offer depends on; equal texts for equal offers. */
function offerInputs(view: View): string {
  const { online, frontend, ...inputs } = view.backend.toolstack;
  return JSON.stringify([inputs, view.backend.problem?.message]);
}

/** Errors of the three kinds that are answered with a refusal; others are tried again. */
function isRefusal(error: unknown): error is Error {
  return error instanceof RingdiskError || error instanceof DatapathError;
}
