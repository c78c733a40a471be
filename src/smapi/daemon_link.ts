// SPDX-License-Identifier: Apache-2.0
// The manager's way to the daemon that serves the disks. It may be restarted at any time, and is
// back soon; whoever asks waits for that.
import { setTimeout as sleep } from 'node:timers/promises';
import { ControlClient } from '../control/client.ts';
import { ControlError, DaemonUnreachableError } from '../control/errors.ts';
import { controlSocketPath, type Method, type Methods } from '../control/protocol.ts';

/** A daemon that is restarted, or upgraded, is back by then. */
const AWAY_MS = 15_000;
const RETRY_MS = 100;

export class DaemonLink {
  readonly #socket: string;
  readonly #awayMs: number;

  constructor(runtimeDir: string, awayMs = AWAY_MS) {
    this.#socket = controlSocketPath(runtimeDir);
    this.#awayMs = awayMs;
  }

  /** Asked again where the daemon goes away: only for what may be done twice. */
  async call<M extends Method>(
    method: M,
    params: Methods[M]['params'],
  ): Promise<Methods[M]['result']> {
    const deadline = performance.now() + this.#awayMs;
    for (;;) {
      try {
        return await this.callNow(method, params);
      } catch (error) {
        const isAway = error instanceof DaemonUnreachableError;
        if (!isAway || performance.now() > deadline) throw error;
      }
      await sleep(RETRY_MS);
    }
  }

  /** Throws DaemonUnreachableError at once where nobody answers. */
  async callNow<M extends Method>(
    method: M,
    params: Methods[M]['params'],
  ): Promise<Methods[M]['result']> {
    const client = await ControlClient.connect(this.#socket);
    try {
      return await client.call(method, params);
    } finally {
      client.close();
    }
  }
}

export function isError(error: unknown, code: string): boolean {
  return error instanceof ControlError && error.code === code;
}
