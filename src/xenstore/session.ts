// SPDX-License-Identifier: Apache-2.0
// One connection to xenstored while it lasts: matches answers to requests by their ids, keeps a
// bounded number of them in flight, and fails all of them when the link is lost.
import { XenstoreError } from './client.ts';
import type { Link, OpenLink } from './link.ts';
import { quotaError } from './quota.ts';
import {
  checkPayload,
  decodeStrings,
  encodeMessage,
  type Message,
  messageType,
  requestPayloadBytesMax,
} from './wire.ts';

/** xenstored allows a domain 20 unanswered requests; more wait here. */
export const inFlightMax = 16;
const requestIdMax = 0xffff_fffe;

export interface SessionRequest {
  type: number;
  /** 0: none. */
  transaction: number;
  payload: Buffer;
  /** For messages: "read /local/domain/0/name". */
  what: string;
}

export interface SessionEvents {
  onWatchEvent(path: string, token: string): void;
  /** The session is over, not by close(); every request has failed. */
  onLost(error: Error): void;
}

interface PendingRequest {
  readonly request: SessionRequest;
  readonly resolve: (payload: Buffer) => void;
  readonly reject: (error: XenstoreError) => void;
}

export class Session {
  readonly #events: SessionEvents;
  readonly #inFlight = new Map<number, PendingRequest>();
  readonly #waiting: PendingRequest[] = [];
  #link: Link | undefined;
  #lostTo: XenstoreError | undefined;
  #nextRequestId = 1;

  private constructor(events: SessionEvents) {
    this.#events = events;
  }

  static async open(openLink: OpenLink, events: SessionEvents): Promise<Session> {
    const session = new Session(events);
    session.#link = await openLink({
      onMessage: (message) => session.#receive(message),
      onLost: (error) => session.#lose('ECONNRESET', error),
    });
    return session;
  }

  /** Why this session is over; undefined while it is not. */
  get lostTo(): XenstoreError | undefined {
    return this.#lostTo;
  }

  /**
   * The answer's payload. Rejects with xenstored's error, with E2BIG for a request that would break
   * the connection, and with ECONNRESET when the answer will never come.
   */
  async request(request: SessionRequest): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const pending = { request, resolve, reject };
      if (this.#lostTo) {
        reject(failure(pending, this.#lostTo));
        return;
      }
      this.#waiting.push(pending);
      this.#sendWaiting();
    });
  }

  /** Fails what is under way with the code of `reason`; onLost is not called. */
  async close(reason: XenstoreError): Promise<void> {
    this.#failAll(reason);
    await this.#link?.close();
  }

  #sendWaiting(): void {
    while (this.#inFlight.size < inFlightMax) {
      const pending = this.#waiting.shift();
      if (!pending) return;
      const requestId = this.#takeRequestId();
      try {
        checkPayload(pending.request.payload.length, requestPayloadBytesMax);
        const bytes = encodeMessage({ ...pending.request, requestId });
        this.#inFlight.set(requestId, pending);
        this.#link?.send(bytes);
      } catch (error) {
        pending.reject(error as XenstoreError);
      }
    }
  }

  #takeRequestId(): number {
    const id = this.#nextRequestId;
    this.#nextRequestId = id === requestIdMax ? 1 : id + 1;
    return id;
  }

  #receive(message: Message): void {
    if (this.#lostTo) return;
    try {
      this.#dispatch(message);
    } catch (error) {
      if (!(error instanceof XenstoreError)) throw error;
      this.#lose(error.code, error);
      return;
    }
    this.#sendWaiting();
  }

  #dispatch(message: Message): void {
    if (message.type === messageType.watchEvent) {
      const [path, token] = decodeStrings(message.payload);
      if (path === undefined || token === undefined) {
        throw new XenstoreError('EPROTO', 'a watch event came without path or token');
      }
      this.#events.onWatchEvent(path, token);
      return;
    }
    const pending = this.#inFlight.get(message.requestId);
    if (!pending) {
      throw new XenstoreError('EPROTO', `nobody asked for answer ${message.requestId}`);
    }
    this.#inFlight.delete(message.requestId);
    if (message.type === pending.request.type) pending.resolve(message.payload);
    else if (message.type === messageType.error) pending.reject(refusal(pending, message.payload));
    else {
      const error = new XenstoreError('EPROTO', `answer of type ${message.type}`);
      pending.reject(failure(pending, error));
      throw error;
    }
  }

  #lose(code: string, cause: Error): void {
    if (this.#lostTo) return;
    this.#failAll(new XenstoreError(code, cause.message));
    void this.#link?.close();
    this.#events.onLost(cause);
  }

  #failAll(reason: XenstoreError): void {
    this.#lostTo ??= reason;
    const pending = [...this.#inFlight.values(), ...this.#waiting];
    this.#inFlight.clear();
    this.#waiting.length = 0;
    for (const each of pending) each.reject(failure(each, reason));
  }
}

/** What xenstored answered; its text is only an errno's name. */
function refusal(pending: PendingRequest, payload: Buffer): XenstoreError {
  const text = payload.toString('latin1').replace(/\0$/, '');
  const code = /^E[A-Z0-9]{1,15}$/.test(text) ? text : 'EIO';
  const { type, what } = pending.request;
  return (
    quotaError(type, code, what) ?? new XenstoreError(code, `xenstored refused to ${what}: ${code}`)
  );
}

function failure(pending: PendingRequest, reason: XenstoreError): XenstoreError {
  const code = reason.code === 'EPROTO' ? 'ECONNRESET' : reason.code;
  return new XenstoreError(code, `could not ${pending.request.what}: ${reason.message}`);
}
