// SPDX-License-Identifier: Apache-2.0
// The NBD clients that people have, and one by hand.
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { promisify } from 'node:util';
import { answerGreeting } from '../../src/nbd_tls/starttls.ts';
import { readExactly } from '../../src/nbd_tls/streams.ts';

const CLIENT_MS = 30_000;
const OPTION = { go: 7, structuredReply: 8, setMetaContext: 10 };
const ACK = 1;
const BLOCK_STATUS = 7;

/** A client's standard output; rejects with what it said. */
export async function client(program: string, ...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(program, args, { timeout: CLIENT_MS });
  return stdout;
}

/** A description of an extent, and its flags. */
export type Extent = [length: number, flags: number];

export interface Chunk {
  /** Nothing of the answer follows. */
  readonly isLast: boolean;
  readonly type: number;
  readonly payload: Buffer;
}

/** As XAPI's own: structured replies, one metadata context, 32-bit lengths. */
export class PlainClient {
  readonly #socket: Socket;

  private constructor(socket: Socket) {
    this.#socket = socket;
  }

  static async to(path: string, name: string): Promise<PlainClient> {
    const made = new PlainClient(connect(path));
    await once(made.#socket, 'connect');
    await answerGreeting(made.#socket, 3);
    await made.#option(OPTION.structuredReply, Buffer.alloc(0));
    const context = [sized(name), number32(1), sized('base:allocation')];
    await made.#option(OPTION.setMetaContext, Buffer.concat(context));
    await made.#option(OPTION.go, Buffer.concat([sized(name), Buffer.alloc(2)]));
    return made;
  }

  /** All chunks of the answer. */
  async blockStatus(offset: number, length: number): Promise<Chunk[]> {
    const request = Buffer.alloc(28);
    request.writeUInt32BE(0x25609513, 0);
    request.writeUInt16BE(BLOCK_STATUS, 6);
    request.writeBigUInt64BE(BigInt(offset), 16);
    request.writeUInt32BE(length, 24);
    this.#socket.write(request);
    const chunks: Chunk[] = [];
    while (!chunks.at(-1)?.isLast) {
      const header = await readExactly(this.#socket, 20);
      const bytes = header.readUInt32BE(16);
      const payload = bytes > 0 ? await readExactly(this.#socket, bytes) : Buffer.alloc(0);
      const isLast = (header.readUInt16BE(4) & 1) === 1;
      chunks.push({ isLast, type: header.readUInt16BE(6), payload });
    }
    return chunks;
  }

  close(): void {
    this.#socket.destroy();
  }

  /** Until it is acknowledged; what else is told does not matter here. */
  async #option(option: number, data: Buffer): Promise<void> {
    const said = Buffer.concat([Buffer.from('IHAVEOPT'), number32(option), number32(data.length)]);
    this.#socket.write(Buffer.concat([said, data]));
    for (let type = 0; type !== ACK; ) {
      const header = await readExactly(this.#socket, 20);
      type = header.readUInt32BE(12);
      const bytes = header.readUInt32BE(16);
      if (bytes > 0) await readExactly(this.#socket, bytes);
      if (type >= 0x80000000) throw new Error(`option ${option}: error 0x${type.toString(16)}`);
    }
  }
}

/** Of a BLOCK_STATUS chunk, behind the context's number. */
export function extentsOf({ payload }: Chunk): Extent[] {
  const extents: Extent[] = [];
  for (let at = 4; at < payload.length; at += 8) {
    extents.push([payload.readUInt32BE(at), payload.readUInt32BE(at + 4)]);
  }
  return extents;
}

function number32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function sized(text: string): Buffer {
  return Buffer.concat([number32(Buffer.byteLength(text)), Buffer.from(text)]);
}
