// SPDX-License-Identifier: Apache-2.0
// The requests of XenstoreRequests as messages, inside or outside a transaction.
import { decodeText } from '../text.ts';
import { type Permission, XenstoreError, type XenstoreRequests } from './client.ts';
import { checkPath } from './paths.ts';
import {
  decodeStrings,
  encodeStrings,
  formatPermission,
  messageType,
  parsePermission,
  writePayload,
} from './wire.ts';

/** Sends one request and resolves to the answer's payload. `what` is for messages. */
export type Call = (type: number, payload: Buffer, what: string) => Promise<Buffer>;

/** Far over any real list: 32752 domains under /local/domain take less than 200 KiB. */
const directoryBytesMax = 1 << 20;
/** Reading a list in parts starts over when the list changes. */
const directoryTriesMax = 16;

export class WireRequests implements XenstoreRequests {
  readonly #call: Call;

  constructor(call: Call) {
    this.#call = call;
  }

  async read(path: string): Promise<string | undefined> {
    const answer = await absentIsUndefined(this.#ask(messageType.read, path, 'read'));
    return answer && decodeText(answer);
  }

  async directory(path: string): Promise<string[] | undefined> {
    try {
      const whole = await absentIsUndefined(this.#ask(messageType.directory, path, 'list'));
      return whole && decodeStrings(whole);
    } catch (error) {
      if (!hasCode(error, 'E2BIG')) throw error;
    }
    return absentIsUndefined(this.#directoryInParts(path));
  }

  async write(path: string, value: string): Promise<void> {
    checkPath(path);
    await this.#call(messageType.write, writePayload(path, value), `write ${path}`);
  }

  async mkdir(path: string): Promise<void> {
    await this.#ask(messageType.mkdir, path, 'make');
  }

  async remove(path: string): Promise<void> {
    await absentIsUndefined(this.#ask(messageType.remove, path, 'remove'));
  }

  async getPermissions(path: string): Promise<Permission[]> {
    const answer = await this.#ask(messageType.getPermissions, path, 'read the permissions of');
    return decodeStrings(answer).map(parsePermission);
  }

  async setPermissions(path: string, permissions: Permission[]): Promise<void> {
    checkPath(path);
    const payload = encodeStrings(path, ...permissions.map(formatPermission));
    await this.#call(messageType.setPermissions, payload, `set the permissions of ${path}`);
  }

  async #ask(type: number, path: string, verb: string): Promise<Buffer> {
    checkPath(path);
    return this.#call(type, encodeStrings(path), `${verb} ${path}`);
  }

  /** For lists that do not fit into one message. */
  async #directoryInParts(path: string): Promise<string[]> {
    for (let tries = 0; tries < directoryTriesMax; tries++) {
      const list = await this.#unchangedParts(path);
      if (list) return decodeStrings(list);
    }
    throw new XenstoreError('EAGAIN', `the list of ${path} changes faster than it can be read`);
  }

  /** Undefined when the list changed between two parts, which its generation tells. */
  async #unchangedParts(path: string): Promise<Buffer | undefined> {
    let list: Buffer = Buffer.alloc(0);
    let firstGeneration: string | undefined;
    while (list.length <= directoryBytesMax) {
      const payload = encodeStrings(path, String(list.length));
      const answer = await this.#call(messageType.directoryPart, payload, `list ${path}`);
      const end = answer.indexOf(0);
      if (end < 0 || end + 1 === answer.length) {
        throw new XenstoreError('EPROTO', `a part of the list of ${path} is empty`);
      }
      const generation = answer.toString('latin1', 0, end);
      firstGeneration ??= generation;
      if (generation !== firstGeneration) return undefined;
      list = Buffer.concat([list, answer.subarray(end + 1)]);
      // An empty name ends the list.
      if (list.length === 1 || list.at(-2) === 0) return list.subarray(0, -1);
    }
    throw new XenstoreError(
      'E2BIG',
      `the list of ${path} is longer than ${directoryBytesMax} bytes`,
    );
  }
}

/** xenstored's ENOENT is an answer, not a failure. */
export async function absentIsUndefined<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  }
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof XenstoreError && error.code === code;
}
