// SPDX-License-Identifier: Apache-2.0
// The CLI's end of the control socket: typed calls, checked answers, an end to every wait.
import { connect, type Socket } from 'node:net';
import * as v from 'valibot';
import { ControlError, DaemonUnreachableError } from './errors.ts';
import { LineSplitter } from './framing.ts';
import { METHODS, type Method, type Methods, PROTOCOL, ResponseSchema } from './protocol.ts';

/** The answer to `stats` of every VBD of a host, with room to spare. */
const RESPONSE_BYTES_MAX = 64 * 1024 * 1024;
/** The daemon itself gives up before, where it waits for a guest or for storage. */
const ANSWER_TIMEOUT_MS = 60_000;

interface Waiter {
  resolve(result: unknown): void;
  reject(error: Error): void;
}

/** One connection to the daemon; calls may overlap. */
export class ControlClient {
  readonly #socket: Socket;
  readonly #lines = new LineSplitter(RESPONSE_BYTES_MAX);
  readonly #waiters = new Map<number, Waiter>();
  #nextId = 1;
  /** Why there are no more answers. */
  #ended: Error | undefined;

  /** Throws DaemonUnreachableError where nobody listens on `path`. */
  static connect(path: string): Promise<ControlClient> {
    const socket = connect(path);
    return new Promise((resolve, reject) => {
      socket.once('error', (error: NodeJS.ErrnoException) => reject(unreachable(path, error)));
      socket.once('connect', () => {
        socket.removeAllListeners('error');
        resolve(new ControlClient(socket));
      });
    });
  }

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => this.#onData(chunk));
    socket.on('error', (error) => this.#end(goneAway(error.message)));
    socket.on('close', () => this.#end(goneAway('it closed the connection')));
  }

  /** Throws ControlError with the daemon's code, or DaemonUnreachableError when it went away. */
  async call<M extends Method>(
    method: M,
    params: Methods[M]['params'],
  ): Promise<Methods[M]['result']> {
    if (this.#ended) throw this.#ended;
    const id = this.#nextId++;
    let timer: NodeJS.Timeout | undefined;
    const answer = new Promise<unknown>((resolve, reject) => {
      this.#waiters.set(id, { resolve, reject });
      timer = setTimeout(() => {
        reject(noAnswer(method));
      }, ANSWER_TIMEOUT_MS);
    });
    this.#socket.write(`${JSON.stringify({ protocol: PROTOCOL, id, method, params })}\n`);
    try {
      return checkResult(method, await answer);
    } finally {
      clearTimeout(timer);
      this.#waiters.delete(id);
    }
  }

  close(): void {
    this.#ended ??= goneAway('the connection is closed');
    this.#socket.destroy();
  }

  #onData(chunk: Buffer): void {
    try {
      for (const line of this.#lines.push(chunk)) this.#onResponse(JSON.parse(line));
    } catch (error) {
      this.#end(goneAway((error as Error).message));
      this.#socket.destroy();
    }
  }

  #onResponse(value: unknown): void {
    const response = v.parse(ResponseSchema, value);
    const { id, error } = response;
    const failure = error && new ControlError(error.code, error.message);
    const waiter = id === null ? undefined : this.#waiters.get(id);
    // Not about one request: the daemon does not let us in, or cannot read what we say.
    if (failure && id === null) this.#end(failure);
    else if (failure) waiter?.reject(failure);
    else waiter?.resolve(response.result);
  }

  #end(reason: Error): void {
    this.#ended ??= reason;
    for (const waiter of this.#waiters.values()) waiter.reject(reason);
    this.#waiters.clear();
  }
}

function checkResult<M extends Method>(method: M, value: unknown): Methods[M]['result'] {
  const checked = v.safeParse(METHODS[method].result, value);
  if (checked.success) return checked.output as Methods[M]['result'];
  const [issue] = checked.issues;
  const where = v.getDotPath(issue) ?? 'the answer';
  throw new ControlError(
    'EPROTO',
    `the daemon's answer to ${method} is not what this version expects (${where}: ` +
      `${issue.message}). Restart the daemon after an upgrade.`,
  );
}

function unreachable(path: string, error: NodeJS.ErrnoException): DaemonUnreachableError {
  const why: Record<string, string> = {
    ENOENT: `there is no ${path}. Start the daemon (systemctl start ringdisk, or ringdisk serve)`,
    ECONNREFUSED: `nobody listens on ${path}: the daemon has died. Start it again, and see its log`,
    EACCES: `you may not open ${path}. Run this as the user that runs the daemon, most often root`,
  };
  const reason = why[error.code ?? ''] ?? error.message;
  return new DaemonUnreachableError(
    `Cannot reach the daemon: ${reason}; for a daemon with another directory give --runtime-dir.`,
  );
}

function noAnswer(method: Method): ControlError {
  return new ControlError(
    'ETIMEDOUT',
    `The daemon runs, but has not answered ${method} for ${ANSWER_TIMEOUT_MS / 1000} s. What it ` +
      'was asked for may still happen; see its log, and whether xenstored answers.',
  );
}

function goneAway(reason: string): DaemonUnreachableError {
  return new DaemonUnreachableError(`The daemon went away: ${reason}. See its log.`);
}
