// SPDX-License-Identifier: Apache-2.0
// One request of a client as an operation on its session of the MemoryStore.
import { decodeText, encodeText } from '../text.ts';
import { XenstoreError } from './client.ts';
import type { MemorySession } from './memory_store.ts';
import { absolutePathBytesMax, domainPath, parseDecimal, parseDomid } from './paths.ts';
import {
  decodeStrings,
  encodeStrings,
  formatPermission,
  type Message,
  messageType,
  parsePermission,
  payloadBytesMax,
} from './wire.ts';

export interface WatchRegistry {
  /** Returns the callback for the events of this new watch. */
  watch(path: string, token: string): (changedPath: string) => void;
  unwatch(path: string, token: string): void;
}

type Answer = (message: Message) => Buffer;

/** So that an event for the longest path still fits into a message. */
const tokenBytesMax = payloadBytesMax - absolutePathBytesMax - 2;

const ok = encodeStrings('OK');

export class ServerRequests {
  readonly #session: MemorySession;
  readonly #registry: WatchRegistry;
  readonly #answers: ReadonlyMap<number, Answer>;

  constructor(session: MemorySession, registry: WatchRegistry) {
    this.#session = session;
    this.#registry = registry;
    this.#answers = new Map<number, Answer>([
      [messageType.read, (message) => this.#read(message)],
      [messageType.write, (message) => this.#write(message)],
      [messageType.mkdir, (message) => this.#mkdir(message)],
      [messageType.remove, (message) => this.#remove(message)],
      [messageType.directory, (message) => this.#directory(message)],
      [messageType.directoryPart, (message) => this.#directoryPart(message)],
      [messageType.getPermissions, (message) => this.#getPermissions(message)],
      [messageType.setPermissions, (message) => this.#setPermissions(message)],
      [messageType.watch, (message) => this.#watch(message)],
      [messageType.unwatch, (message) => this.#unwatch(message)],
      [messageType.transactionStart, () => encodeStrings(String(session.startTransaction()))],
      [messageType.transactionEnd, (message) => this.#transactionEnd(message)],
      [messageType.getDomainPath, (message) => this.#domainPath(message)],
    ]);
  }

  /** The answer's payload; throws the XenstoreError to answer with. */
  answer(message: Message): Buffer {
    const answer = this.#answers.get(message.type);
    if (answer) return answer(message);
    throw new XenstoreError('ENOSYS', `there are no requests of type ${message.type}`);
  }

  #read(message: Message): Buffer {
    return encodeText(this.#session.node(message.transaction, onlyString(message)).value);
  }

  #write(message: Message): Buffer {
    const end = message.payload.indexOf(0);
    if (end < 0) throw new XenstoreError('EINVAL', 'a write needs a path and a value');
    const path = decodeText(message.payload.subarray(0, end));
    const value = decodeText(message.payload.subarray(end + 1));
    this.#session.write(message.transaction, path, value);
    return ok;
  }

  #mkdir(message: Message): Buffer {
    this.#session.mkdir(message.transaction, onlyString(message));
    return ok;
  }

  #remove(message: Message): Buffer {
    this.#session.remove(message.transaction, onlyString(message));
    return ok;
  }

  #directory(message: Message): Buffer {
    const { children } = this.#session.node(message.transaction, onlyString(message));
    const list = encodeStrings(...children);
    if (list.length <= payloadBytesMax) return list;
    throw new XenstoreError('E2BIG', 'this list has to be read in parts');
  }

  /** The generation, then as many whole names as fit; an empty name after the last one. */
  #directoryPart(message: Message): Buffer {
    const [path, offsetText] = strings(message, 2);
    const { children, generation } = this.#session.node(message.transaction, path);
    const list = encodeStrings(...children);
    const offset = parseDecimal(offsetText, list.length);
    if (offset === undefined) throw new XenstoreError('EINVAL', `no offset: ${offsetText}`);
    const head = encodeStrings(String(generation));
    const space = payloadBytesMax - head.length - 1;
    if (list.length - offset <= space) {
      return Buffer.concat([head, list.subarray(offset), Buffer.of(0)]);
    }
    const end = list.lastIndexOf(0, offset + space - 1) + 1;
    return Buffer.concat([head, list.subarray(offset, end)]);
  }

  #getPermissions(message: Message): Buffer {
    const { permissions } = this.#session.node(message.transaction, onlyString(message));
    return encodeStrings(...permissions.map(formatPermission));
  }

  #setPermissions(message: Message): Buffer {
    const [path = '', ...permissions] = decodeStrings(message.payload);
    this.#session.setPermissions(message.transaction, path, permissions.map(parsePermission));
    return ok;
  }

  #watch(message: Message): Buffer {
    const [path, token] = strings(message, 2);
    if (Buffer.byteLength(token) > tokenBytesMax) {
      throw new XenstoreError('EINVAL', `a watch token is longer than ${tokenBytesMax} bytes`);
    }
    // The store fires at once: by then the registry must know the watch.
    let callback: ((changedPath: string) => void) | undefined;
    this.#session.addWatch(path, token, (changed) => {
      callback ??= this.#registry.watch(path, token);
      callback(changed);
    });
    return ok;
  }

  #unwatch(message: Message): Buffer {
    const [path, token] = strings(message, 2);
    this.#session.removeWatch(path, token);
    this.#registry.unwatch(path, token);
    return ok;
  }

  #transactionEnd(message: Message): Buffer {
    const verdict = onlyString(message);
    if (verdict !== 'T' && verdict !== 'F') throw new XenstoreError('EINVAL', 'not T or F');
    this.#session.endTransaction(message.transaction, verdict === 'T');
    return ok;
  }

  #domainPath(message: Message): Buffer {
    const domid = parseDomid(onlyString(message));
    if (domid === undefined) throw new XenstoreError('EINVAL', 'not a domain id');
    return encodeStrings(domainPath(domid));
  }
}

function onlyString(message: Message): string {
  return strings(message, 1)[0];
}

function strings(message: Message, count: 1): [string];
function strings(message: Message, count: 2): [string, string];
function strings(message: Message, count: number): string[] {
  const list = decodeStrings(message.payload);
  if (list.length === count) return list;
  throw new XenstoreError('EINVAL', `a request has ${list.length} strings instead of ${count}`);
}
