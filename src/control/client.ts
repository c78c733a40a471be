// SPDX-License-Identifier: Apache-2.0
// The CLI's end of the control socket: typed calls, checked answers, an end to every wait.
import { connect, type Socket } from 'node:net';
import * as v from 'valibot';
import { ControlError, DaemonUnreachableError } from './errors.ts';
import { LineSplitter, REQUEST_BYTES_MAX } from './framing.ts';
import type { MethodName, MethodTable, ParamsOf, ResultOf, ServerWords } from './method_table.ts';
import { METHODS, PROTOCOL, ResponseSchema } from './protocol.ts';

/** The answer to `stats` of every VBD of a host, with room to spare. */
const RESPONSE_BYTES_MAX = 64 * 1024 * 1024;
/** The daemon itself gives up before, where it waits for a guest or for storage. */
const ANSWER_TIMEOUT_MS = 60_000;

interface Waiter {
  resolve(result: unknown): void;
  reject(error: Error): void;
}

const DAEMON: ServerWords = {
  name: 'daemon',
  start: 'systemctl start ringdisk, or ringdisk serve',
  silent: ', and whether xenstored answers',
};

/** Throws DaemonUnreachableError where nobody listens on `path`. */
function connectTo(path: string, words: ServerWords): Promise<Socket> {
  const socket = connect(path);
  return new Promise((resolve, reject) => {
    socket.once('error', (error: NodeJS.ErrnoException) => reject(unreachable(path, error, words)));
    socket.once('connect', () => {
      socket.removeAllListeners('error');
      resolve(socket);
    });
  });
}

/** One connection to a program that serves these methods; calls may overlap. */
export class MethodClient<T extends MethodTable> {
  readonly #methods: T;
  readonly #words: ServerWords;
  readonly #timeoutMs: number;
  readonly #socket: Socket;
  readonly #lines = new LineSplitter(RESPONSE_BYTES_MAX);
  readonly #waiters = new Map<number, Waiter>();
  #nextId = 1;
  /** Why there are no more answers. */
  #ended: Error | undefined;

  constructor(
    socket: Socket,
    methods: T,
    words: ServerWords,
    timeoutMs: number = ANSWER_TIMEOUT_MS,
  ) {
    this.#methods = methods;
    this.#words = words;
    this.#timeoutMs = timeoutMs;
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => this.#onData(chunk));
    socket.on('error', (error) => this.#end(this.#goneAway(error.message)));
    socket.on('close', () => this.#end(this.#goneAway('it closed the connection')));
  }

  static async open<T extends MethodTable>(
    path: string,
    methods: T,
    words: ServerWords,
    timeoutMs?: number,
  ): Promise<MethodClient<T>> {
    return new MethodClient(await connectTo(path, words), methods, words, timeoutMs);
  }

  /** Throws ControlError with the server's code, or DaemonUnreachableError when it went away. */
  async call<M extends MethodName<T>>(method: M, params: ParamsOf<T, M>): Promise<ResultOf<T, M>> {
    if (this.#ended) throw this.#ended;
    const id = this.#nextId++;
    const request = `${JSON.stringify({ protocol: PROTOCOL, id, method, params })}\n`;
    if (Buffer.byteLength(request) > REQUEST_BYTES_MAX) {
      throw new ControlError(
        'USAGE',
        `what is asked for is longer than ${REQUEST_BYTES_MAX} bytes`,
      );
    }
    let timer: NodeJS.Timeout | undefined;
    const answer = new Promise<unknown>((resolve, reject) => {
      this.#waiters.set(id, { resolve, reject });
      timer = setTimeout(() => {
        reject(noAnswer(method, this.#words, this.#timeoutMs));
      }, this.#timeoutMs);
    });
    this.#socket.write(request);
    try {
      return this.#checked(method, await answer);
    } finally {
      clearTimeout(timer);
      this.#waiters.delete(id);
    }
  }

  close(): void {
    this.#ended ??= this.#goneAway('the connection is closed');
    this.#socket.destroy();
  }

  #onData(chunk: Buffer): void {
    try {
      for (const line of this.#lines.push(chunk)) this.#onResponse(JSON.parse(line));
    } catch (error) {
      this.#end(this.#goneAway((error as Error).message));
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

  #checked<M extends MethodName<T>>(method: M, value: unknown): ResultOf<T, M> {
    const checked = v.safeParse(this.#methods[method]?.result as v.GenericSchema, value);
    if (checked.success) return checked.output as ResultOf<T, M>;
    const [issue] = checked.issues;
    const where = v.getDotPath(issue) ?? 'the answer';
    throw new ControlError(
      'EPROTO',
      `the ${this.#words.name}'s answer to ${method} is not what this version expects (${where}: ` +
        `${issue.message}). Restart the ${this.#words.name} after an upgrade.`,
    );
  }

  #goneAway(reason: string): DaemonUnreachableError {
    return new DaemonUnreachableError(`The ${this.#words.name} went away: ${reason}. See its log.`);
  }
}

/** The CLI's end of the daemon's socket. */
export class ControlClient extends MethodClient<typeof METHODS> {
  /** Throws DaemonUnreachableError where nobody listens on `path`. */
  static async connect(path: string): Promise<ControlClient> {
    return new ControlClient(await connectTo(path, DAEMON), METHODS, DAEMON);
  }
}

function unreachable(
  path: string,
  error: NodeJS.ErrnoException,
  { name, start }: ServerWords,
): DaemonUnreachableError {
  const why: Record<string, string> = {
    ENOENT: `there is no ${path}. Start the ${name} (${start})`,
    ECONNREFUSED: `nobody listens on ${path}: the ${name} has died. Start it again, see its log`,
    EACCES: `you may not open ${path}. Run this as the user that runs the ${name}, most often root`,
  };
  const reason = why[error.code ?? ''] ?? error.message;
  return new DaemonUnreachableError(
    `Cannot reach the ${name}: ${reason}; for a ${name} with another directory give --runtime-dir.`,
  );
}

function noAnswer(method: string, words: ServerWords, timeoutMs: number): ControlError {
  const { name, silent = '' } = words;
  return new ControlError(
    'ETIMEDOUT',
    `The ${name} runs, but has not answered ${method} for ${timeoutMs / 1000} s. What it ` +
      `was asked for may still happen; see its log${silent}.`,
  );
}
