// SPDX-License-Identifier: Apache-2.0
// Values and paths are bytes, most often UTF-8. A byte b that is not part of valid UTF-8 stands in
// a string as the lone surrogate U+DC00 + b, which no valid text decodes to: so every sequence of
// bytes has a string of its own, and comes back from it as it was. native/addon/path_text.cc does
// the same.
import { Buffer, isUtf8 } from 'node:buffer';

const ESCAPE_BASE = 0xdc00;
const LONE_SURROGATE = /[\ud800-\udfff]/u;
const ESCAPED_BYTE = /[\udc80-\udcff]/u;

export function decodeText(bytes: Buffer): string {
  if (isUtf8(bytes)) return bytes.toString('utf8');
  let text = '';
  let start = 0;
  for (let index = 0; index < bytes.length; ) {
    const length = sequenceLength(bytes, index);
    if (length > 0) {
      index += length;
      continue;
    }
    text += bytes.toString('utf8', start, index);
    text += String.fromCharCode(ESCAPE_BASE + (bytes[index] ?? 0));
    index++;
    start = index;
  }
  return text + bytes.toString('utf8', start);
}

export function encodeText(text: string): Buffer {
  if (!LONE_SURROGATE.test(text)) return Buffer.from(text);
  const parts: Buffer[] = [];
  // By code points: half of a pair is no surrogate of its own.
  for (const char of text) {
    const byte = (char.codePointAt(0) ?? 0) - ESCAPE_BASE;
    parts.push(ESCAPED_BYTE.test(char) ? Buffer.of(byte) : Buffer.from(char));
  }
  return Buffer.concat(parts);
}

/** The bytes that `text` stands for, their number. */
export function textBytes(text: string): number {
  return LONE_SURROGATE.test(text) ? encodeText(text).length : Buffer.byteLength(text);
}

/** For people: what is not text as "\xe9". */
export function showText(text: string): string {
  return text.replaceAll(/[\udc80-\udcff]/gu, (char) => {
    return `\\x${(char.charCodeAt(0) - ESCAPE_BASE).toString(16)}`;
  });
}

/** Of the UTF-8 character that begins there; 0: none does. */
function sequenceLength(bytes: Buffer, index: number): number {
  const first = bytes[index] ?? 0;
  const length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  return isUtf8(bytes.subarray(index, index + length)) && index + length <= bytes.length
    ? length
    : 0;
}
