// SPDX-License-Identifier: Apache-2.0
// Any bytes from xenstored: each whole message in them comes out once and as it is, wherever the
// stream is cut, and a stream that can't be right ends there with one error.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { XenstoreError } from '../../src/xenstore/client.ts';
import {
  decodeStrings,
  encodeMessage,
  headerBytes,
  type Message,
  MessageDecoder,
  parsePermission,
  payloadBytesMax,
} from '../../src/xenstore/wire.ts';
import { corpus, fuzzRuns, someBytes } from './corpus.ts';

/** Mostly whole messages; whatever else lies between them. */
const stream: fc.Arbitrary<Buffer> = fc
  .array(
    fc.oneof(
      { weight: 8, arbitrary: fc.uint8Array({ maxLength: 120 }).map((bytes) => framed(bytes)) },
      { weight: 1, arbitrary: fc.uint8Array({ maxLength: 24 }).map((bytes) => Buffer.from(bytes)) },
    ),
    { maxLength: 12 },
  )
  .map((parts) => Buffer.concat(parts));

function framed(payload: Uint8Array): Buffer {
  const header = { type: payload.length % 23, requestId: payload[0] ?? 0, transaction: 0 };
  return encodeMessage({ ...header, payload: Buffer.from(payload) });
}

/** The messages of a stream, read a second way: all at once, from the front. */
function expectedOf(bytes: Buffer): { messages: Message[]; broken: boolean } {
  const messages: Message[] = [];
  for (let at = 0; bytes.length - at >= headerBytes; ) {
    const [type, requestId, transaction, length] = [0, 4, 8, 12].map((offset) =>
      bytes.readUInt32LE(at + offset),
    ) as [number, number, number, number];
    if (length > payloadBytesMax) return { messages, broken: true };
    if (bytes.length - at - headerBytes < length) break;
    const payload = bytes.subarray(at + headerBytes, at + headerBytes + length);
    messages.push({ type, requestId, transaction, payload: Buffer.from(payload) });
    at += headerBytes + length;
  }
  return { messages, broken: false };
}

/** Bytes in chunks of `step`; what the decoder makes of them. */
function decode(bytes: Buffer, step: number): { messages: Message[]; broken: boolean } {
  const decoder = new MessageDecoder();
  const messages: Message[] = [];
  for (let at = 0; at < bytes.length; at += step) {
    try {
      messages.push(...decoder.push(bytes.subarray(at, at + step)));
    } catch (error) {
      expect(error).toBeInstanceOf(XenstoreError);
      expect(() => decoder.push(Buffer.alloc(1))).toThrow(XenstoreError);
      return { messages, broken: true };
    }
  }
  return { messages, broken: false };
}

function check(bytes: Buffer): void {
  const expected = expectedOf(bytes);
  // One byte at a time nothing is lost before an error; in larger chunks what came with it is.
  expect(decode(bytes, 1)).toEqual(expected);
  for (const step of [7, headerBytes, 4096]) {
    const decoded = decode(bytes, step);
    expect(decoded.broken).toBe(expected.broken);
    expect(expected.messages.slice(0, decoded.messages.length)).toEqual(decoded.messages);
    if (!expected.broken) expect(decoded.messages.length).toBe(expected.messages.length);
  }
  for (const { payload } of expected.messages) checkPayload(payload);
}

/** Strings and permissions come out, or a XenstoreError does. */
function checkPayload(payload: Buffer): void {
  let strings: string[] = [];
  try {
    strings = decodeStrings(payload);
    expect(strings.length).toBe(payload.filter((byte) => byte === 0).length);
  } catch (error) {
    expect(error).toMatchObject({ code: 'EPROTO' });
  }
  for (const text of strings) {
    try {
      const { domid } = parsePermission(text);
      expect(domid >= 0 && domid <= 0xffff).toBe(true);
    } catch (error) {
      expect(error).toMatchObject({ code: 'EPROTO' });
    }
  }
}

test('any stream of messages', () => {
  const examples = corpus('xenstore_wire');
  fc.assert(fc.property(stream, check), { numRuns: fuzzRuns, examples });
});

test('any bytes', () => {
  fc.assert(fc.property(someBytes, check), { numRuns: fuzzRuns / 10 });
});
