// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodeStrings,
  encodeMessage,
  encodeStrings,
  formatPermission,
  headerBytes,
  type Message,
  MessageDecoder,
  messageType,
  parsePermission,
  payloadBytesMax,
  writePayload,
} from '../../../src/xenstore/wire.ts';

const uint32 = fc.integer({ min: 0, max: 0xffff_ffff });
const someMessage: fc.Arbitrary<Message> = fc.record({
  type: uint32,
  requestId: uint32,
  transaction: uint32,
  payload: fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
});

/** The bytes cut at arbitrary places. */
function chunksOf(bytes: Buffer, cuts: number[]): Buffer[] {
  const places = [0, ...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length];
  places.sort((a, b) => a - b);
  return places.slice(1).map((end, index) => bytes.subarray(places[index], end));
}

function headerWithLength(length: number): Buffer {
  const header = Buffer.alloc(headerBytes);
  header.writeUInt32LE(length, 12);
  return header;
}

describe('encodeMessage', () => {
  it('lays the header out as xs_wire.h does', () => {
    const bytes = encodeMessage({
      type: messageType.read,
      requestId: 7,
      transaction: 0x01020304,
      payload: encodeStrings('/a'),
    });
    expect(bytes.toString('hex')).toBe('02000000070000000403020103000000' + '2f6100');
  });

  it('refuses a payload that would end the connection', () => {
    const message = { type: 1, requestId: 1, transaction: 0 };
    const largest = encodeMessage({ ...message, payload: Buffer.alloc(payloadBytesMax) });
    expect(largest.length).toBe(headerBytes + payloadBytesMax);
    const payload = Buffer.alloc(payloadBytesMax + 1);
    expect(() => encodeMessage({ ...message, payload })).toThrow(
      'a xenstore message has 4097 bytes of payload; 4096 are allowed',
    );
  });
});

describe('MessageDecoder', () => {
  it('finds the messages again however the stream is cut', () => {
    const messages = fc.array(someMessage, { maxLength: 10 });
    fc.assert(
      fc.property(messages, fc.array(fc.nat(), { maxLength: 20 }), (sent, cuts) => {
        const decoder = new MessageDecoder();
        const chunks = chunksOf(Buffer.concat(sent.map(encodeMessage)), cuts);
        expect(chunks.flatMap((chunk) => decoder.push(chunk))).toEqual(sent);
      }),
    );
  });

  it('takes the largest message byte by byte', () => {
    const sent = {
      type: messageType.write,
      requestId: 1,
      transaction: 0,
      payload: Buffer.alloc(payloadBytesMax, 'x'),
    };
    const decoder = new MessageDecoder();
    const received = [...encodeMessage(sent)].flatMap((byte) => decoder.push(Buffer.of(byte)));
    expect(received).toEqual([sent]);
  });

  it('only throws EPROTO and returns only messages of allowed size for garbage', () => {
    const garbage = fc.array(fc.uint8Array({ maxLength: 64 }), { maxLength: 30 });
    fc.assert(
      fc.property(garbage, (chunks) => {
        const decoder = new MessageDecoder();
        try {
          for (const chunk of chunks) {
            for (const { payload } of decoder.push(Buffer.from(chunk))) {
              expect(payload.length).toBeLessThanOrEqual(payloadBytesMax);
            }
          }
        } catch (error) {
          expect(error).toMatchObject({ code: 'EPROTO' });
        }
      }),
    );
  });

  it('stays broken after a length out of bounds', () => {
    const decoder = new MessageDecoder();
    expect(() => decoder.push(headerWithLength(payloadBytesMax + 1))).toThrow(
      'a xenstore message claims a payload of 4097 bytes; 4096 are allowed',
    );
    expect(() => decoder.push(headerWithLength(0))).toThrow('4097');
  });

  it('owns the payloads it returns', () => {
    const chunk = encodeMessage({ type: 1, requestId: 1, transaction: 0, payload: Buffer.of(1) });
    const [message] = new MessageDecoder().push(chunk);
    chunk.fill(0xff);
    expect(message?.payload).toEqual(Buffer.of(1));
  });
});

describe('strings', () => {
  it('come back as they were', () => {
    const string = fc.string({ unit: 'grapheme' }).filter((text) => !text.includes('\0'));
    fc.assert(
      fc.property(fc.array(string), (strings) => {
        expect(decodeStrings(encodeStrings(...strings))).toEqual(strings);
      }),
    );
  });

  it('must not contain NUL and must end in it', () => {
    expect(() => encodeStrings('/a\0/b')).toThrow('contains a NUL byte');
    expect(() => decodeStrings(Buffer.from('a\0b'))).toThrow('cut short');
    expect(decodeStrings(Buffer.alloc(0))).toEqual([]);
  });

  it('make a write of a path and a value as it is', () => {
    expect(writePayload('/a', 'b\0c').toString()).toBe('/a\0b\0c');
    expect(writePayload('/a', 'x'.repeat(4077)).length).toBe(4080);
    expect(() => writePayload('/a', 'x'.repeat(4078))).toThrow('4081 bytes');
  });
});

describe('permissions', () => {
  it('are a letter and a number', () => {
    for (const text of ['n0', 'r5', 'w32751', 'b65535']) {
      expect(formatPermission(parsePermission(text))).toBe(text);
    }
    for (const text of ['', 'n', 'x1', 'r-1', 'r1 ', 'r65536', 'rr1', '5']) {
      expect(() => parsePermission(text)).toThrow('is not a xenstore permission');
    }
  });
});
