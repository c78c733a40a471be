// SPDX-License-Identifier: Apache-2.0
// What is to be exported by NBD, as it was asked for and is kept for the daemon that comes next.
import path from 'node:path';
import * as v from 'valibot';
import { RingdiskError, showValue } from '../errors.ts';
import { parseLimits } from '../target/limits.ts';
import { encodeText, textBytes } from '../text.ts';
import { SOCKET_PATH_BYTES_MAX } from '../unix_socket.ts';

// Both stand in "nbd:unix:PATH:exportname=NAME", which has no way to say a colon.
const NAME = /^[^:\p{Cc}]{1,255}$/u;
const SOCKET = /^\/[^:\p{Cc}]*$/u;

export const exportWishSchema = v.strictObject({
  /** A VBD's name, or a target as a toolstack would write it. */
  source: v.pipe(v.string(), v.minLength(1), v.maxLength(4096)),
  /** By which clients ask for it; no two exports of a daemon have the same. */
  name: v.string(),
  /** Of the UNIX socket; several exports may share one. */
  socket: v.string(),
  readOnly: v.boolean(),
  /** The guest of the disk writes to it as well. */
  allowWriters: v.boolean(),
  /** It ends when its writers have said goodbye; whoever connects to its medium waits for that. */
  handOver: v.optional(v.boolean()),
  /** Of its medium, where it is handed over: the next daemon keeps it from others by that. */
  identity: v.optional(v.string()),
  /** Dirty bitmaps of the disk that its clients can read. */
  bitmaps: v.optional(v.array(v.string()), []),
  /** Clients are told of zeroes that are found by reading, where a device does not tell. */
  detectZeroes: v.optional(v.boolean()),
  /** By number: its members may use the socket, besides root and the daemon's user. */
  group: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(0xfffffffe))),
  /** Of all its clients together; an operator's words. */
  limits: v.optional(
    v.pipe(
      v.string(),
      v.check((text) => typeof parseLimits(text) !== 'string', 'no limits'),
    ),
  ),
});

export type ExportWish = Readonly<v.InferOutput<typeof exportWishSchema>>;

/** "3/xvda", "3/51712", "vbd3/3/51712"; anything else is a target. */
export function isVbdName(source: string): boolean {
  return /^([A-Za-z0-9_-]{1,32}\/)?[0-9]{1,5}\/[A-Za-z0-9]{1,16}$/.test(source);
}

/** "vbd3/3/51712" and "/srv/disk.img" as a name of an export. */
export function defaultName(source: string): string {
  const last = isVbdName(source) ? source.replaceAll('/', '-') : path.basename(source);
  return last.replace(/^.*:/, '') || 'disk';
}

/** Throws EXPORT_INVALID with a sentence. */
export function checkWish({ name, socket, source, readOnly, handOver }: ExportWish): void {
  if (handOver && (readOnly || isVbdName(source))) {
    throw new RingdiskError(
      'EXPORT_INVALID',
      'Only a target that clients may write to can be handed over, no disk of a guest.',
    );
  }
  if (!NAME.test(name)) {
    throw new RingdiskError(
      'EXPORT_INVALID',
      `The name ${showValue(name)} is not of 1 to 255 characters without a colon.`,
    );
  }
  if (!SOCKET.test(socket) || textBytes(socket) > SOCKET_PATH_BYTES_MAX) {
    throw new RingdiskError(
      'EXPORT_INVALID',
      `The socket ${showValue(socket)} is not an absolute path of at most ` +
        `${SOCKET_PATH_BYTES_MAX} bytes without a colon.`,
    );
  }
}

/** As libnbd, nbdkit and QEMU read it. */
export function uriOf({ name, socket }: ExportWish): string {
  const place = socket.split('/').map(inUri).join('/');
  return `nbd+unix:///${inUri(name)}?socket=${place}`;
}

/** As encodeURIComponent() has it, which throws where bytes are no text. */
function inUri(text: string): string {
  const bytes = [...encodeText(text)].map((byte) => {
    const char = String.fromCharCode(byte);
    return /[\w.!~*'()-]/.test(char)
      ? char
      : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  });
  return bytes.join('');
}

/** As XAPI and old versions of QEMU do. */
export function oldUriOf({ name, socket }: ExportWish): string {
  return `nbd:unix:${socket}:exportname=${name}`;
}
