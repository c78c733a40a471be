// SPDX-License-Identifier: Apache-2.0
// xenstore's wire protocol (Xen's xs_wire.h): a header of four 32-bit numbers in the host's byte
// order (little-endian on every machine ringdisk runs on), then the payload. Pure: no input or
// output.
import { decodeText, encodeText } from '../text.ts';
import { type Permission, XenstoreError } from './client.ts';

export const headerBytes = 16;
/** In both directions; xenstored ends a connection that sends more. */
export const payloadBytesMax = 4096;
/** For requests: Linux' /dev/xen/xenbus takes no more than 4096 bytes with the header. */
export const requestPayloadBytesMax = payloadBytesMax - headerBytes;

export const messageType = {
  directory: 1,
  read: 2,
  getPermissions: 3,
  watch: 4,
  unwatch: 5,
  transactionStart: 6,
  transactionEnd: 7,
  getDomainPath: 10,
  write: 11,
  mkdir: 12,
  remove: 13,
  setPermissions: 14,
  watchEvent: 15,
  error: 16,
  directoryPart: 22,
} as const;

export interface Message {
  /** One of messageType, or any other 32-bit number: the receiver decides what it makes of it. */
  type: number;
  /** Chosen by the client, echoed in the answer; 0 in watch events. */
  requestId: number;
  /** 0: none. */
  transaction: number;
  payload: Buffer;
}

/** The bytes of one message. Throws E2BIG where the payload would break the connection. */
export function encodeMessage(message: Message): Buffer {
  checkPayload(message.payload.length, payloadBytesMax);
  const bytes = Buffer.allocUnsafe(headerBytes + message.payload.length);
  bytes.writeUInt32LE(message.type, 0);
  bytes.writeUInt32LE(message.requestId, 4);
  bytes.writeUInt32LE(message.transaction, 8);
  bytes.writeUInt32LE(message.payload.length, 12);
  message.payload.copy(bytes, headerBytes);
  return bytes;
}

/** Puts messages together from chunks cut anywhere; holds less than one message between chunks. */
export class MessageDecoder {
  readonly #partial = Buffer.allocUnsafe(headerBytes + payloadBytesMax);
  #partialBytes = 0;
  #broken: XenstoreError | undefined;

  /**
   * The messages that this chunk completes. Throws EPROTO, now and ever after, at a length that no
   * message may have: the stream has no later point to start from again.
   */
  push(chunk: Buffer): Message[] {
    if (this.#broken) throw this.#broken;
    const messages: Message[] = [];
    let offset = 0;
    while (offset < chunk.length) {
      const wanted = this.#messageBytes() - this.#partialBytes;
      const taken = Math.min(wanted, chunk.length - offset);
      chunk.copy(this.#partial, this.#partialBytes, offset, offset + taken);
      this.#partialBytes += taken;
      offset += taken;
      if (this.#partialBytes >= headerBytes && this.#partialBytes === this.#messageBytes()) {
        messages.push(this.#takeMessage());
      }
    }
    return messages;
  }

  /** How many bytes the message at hand has, as far as known: its header first. */
  #messageBytes(): number {
    if (this.#partialBytes < headerBytes) return headerBytes;
    const length = this.#partial.readUInt32LE(12);
    if (length <= payloadBytesMax) return headerBytes + length;
    this.#broken = new XenstoreError(
      'EPROTO',
      `a xenstore message claims a payload of ${length} bytes; ${payloadBytesMax} are allowed`,
    );
    throw this.#broken;
  }

  #takeMessage(): Message {
    const end = this.#partialBytes;
    this.#partialBytes = 0;
    return {
      type: this.#partial.readUInt32LE(0),
      requestId: this.#partial.readUInt32LE(4),
      transaction: this.#partial.readUInt32LE(8),
      payload: Buffer.from(this.#partial.subarray(headerBytes, end)),
    };
  }
}

/** Each string followed by NUL. Throws EINVAL for one that contains NUL. */
export function encodeStrings(...strings: string[]): Buffer {
  for (const string of strings) {
    if (string.includes('\0')) {
      throw new XenstoreError('EINVAL', `${JSON.stringify(string)} contains a NUL byte`);
    }
  }
  return encodeText(strings.map((string) => `${string}\0`).join(''));
}

/**
 * The strings of a payload in which each is followed by NUL. Throws EPROTO when the last is not.
 */
export function decodeStrings(payload: Buffer): string[] {
  if (payload.length === 0) return [];
  if (payload.at(-1) !== 0) {
    throw new XenstoreError('EPROTO', 'a list of strings in a xenstore message is cut short');
  }
  return decodeText(payload.subarray(0, -1)).split('\0');
}

/** WRITE's payload: the path, NUL, the value as it is. Throws E2BIG where both are too long. */
export function writePayload(path: string, value: string): Buffer {
  const payload = Buffer.concat([encodeStrings(path), encodeText(value)]);
  checkPayload(payload.length, requestPayloadBytesMax);
  return payload;
}

/** Throws E2BIG. */
export function checkPayload(bytes: number, bytesMax: number): void {
  if (bytes <= bytesMax) return;
  throw new XenstoreError(
    'E2BIG',
    `a xenstore message has ${bytes} bytes of payload; ${bytesMax} are allowed`,
  );
}

/** "r5": domain 5 may read. */
export function formatPermission(permission: Permission): string {
  return `${permission.access}${permission.domid}`;
}

/** Throws EPROTO for anything but a letter of n, r, w, b and a 16-bit number. */
export function parsePermission(text: string): Permission {
  const match = /^([nrwb])([0-9]{1,5})$/.exec(text);
  const domid = Number(match?.[2]);
  if (!match || domid > 0xffff) {
    throw new XenstoreError('EPROTO', `${JSON.stringify(text)} is not a xenstore permission`);
  }
  return { domid, access: match[1] as Permission['access'] };
}
