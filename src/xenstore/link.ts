// SPDX-License-Identifier: Apache-2.0
// The way to xenstored and back: its socket where xenstored runs in this domain, else the kernel's
// character device.
import { writeSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { XenstoreError } from './client.ts';
import {
  encodeMessage,
  encodeStrings,
  headerBytes,
  type Message,
  MessageDecoder,
  messageType,
  payloadBytesMax,
} from './wire.ts';

export interface LinkHandlers {
  onMessage(message: Message): void;
  /** Called once, and nothing after it, when the stream ends for any reason but close(). */
  onLost(error: Error): void;
}

export interface Link {
  /** Sends one whole message. */
  send(message: Buffer): void;
  close(): Promise<void>;
}

export type OpenLink = (handlers: LinkHandlers) => Promise<Link>;

export function openSocketLink(path: string, handlers: LinkHandlers): Promise<Link> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    let failure: Error = new XenstoreError('ECONNRESET', `xenstored closed ${path}`);
    let closing = false;
    const closed = new Promise<void>((done) => socket.once('close', () => done()));
    const link: Link = {
      send: (message) => void socket.write(message),
      close: () => {
        closing = true;
        socket.destroy();
        return closed;
      },
    };
    socket.on('error', (error) => {
      failure = error;
      reject(error);
    });
    socket.once('connect', () => {
      socket.once('close', () => {
        if (!closing) handlers.onLost(failure);
      });
      resolve(link);
    });
    const decoder = new MessageDecoder();
    socket.on('data', (chunk) => {
      try {
        for (const message of decoder.push(chunk)) handlers.onMessage(message);
      } catch (error) {
        socket.destroy(error as Error);
      }
    });
  });
}

/** What DeviceLink uses of a file handle. */
export type DeviceFile = Pick<FileHandle, 'fd' | 'read' | 'write' | 'close'>;

export async function openDeviceLink(path: string, handlers: LinkHandlers): Promise<Link> {
  return new DeviceLink(await open(path, 'r+'), handlers);
}

/** How long close() waits for the answer that ends the blocked read. */
const closeWaitMs = 2000;

// Its answer is not for anyone: it only ends a blocked read. Sessions use no such request id.
const wakeRequest = encodeMessage({
  type: messageType.getDomainPath,
  requestId: 0xffff_ffff,
  transaction: 0,
  payload: encodeStrings('0'),
});

/**
 * /dev/xen/xenbus. A read blocks there until a message arrives, and Node offers no poll() for such
 * a file, so one thread of libuv's pool (of 4 by default) sits in read() as long as the link is
 * open; writes use another for a moment. There is one read at a time, without a position: the
 * device takes neither two readers nor pread(). There is one request at a time as well: the kernel
 * sends a request from the buffer that the next write() fills, so a second one would garble the
 * first.
 *
 * Nothing interrupts that read from here, and a process whose pool thread is blocked cannot exit.
 * So closing, and exiting without having closed, sees to it that an answer comes, which ends the
 * read. (Where xenstored itself has died, only SIGKILL ends the process.)
 */
export class DeviceLink implements Link {
  readonly #file: DeviceFile;
  readonly #handlers: LinkHandlers;
  readonly #reading: Promise<void>;
  readonly #onExit: () => void;
  readonly #decoder = new MessageDecoder();
  readonly #waiting: Buffer[] = [];
  #answerDue = false;
  #closing = false;

  constructor(file: DeviceFile, handlers: LinkHandlers) {
    this.#file = file;
    this.#handlers = handlers;
    this.#onExit = () => this.#wakeAtExit();
    process.once('exit', this.#onExit);
    this.#reading = this.#readLoop();
  }

  send(message: Buffer): void {
    this.#waiting.push(message);
    this.#writeNext();
  }

  /** Resolves when the read has ended, or when xenstored has not answered for two seconds. */
  async close(): Promise<void> {
    this.#stop();
    let timer: NodeJS.Timeout | undefined;
    const tooLate = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, closeWaitMs);
    });
    await Promise.race([this.#reading, tooLate]);
    clearTimeout(timer);
  }

  #writeNext(): void {
    if (this.#answerDue) return;
    const message = this.#waiting.shift();
    if (!message) return;
    this.#answerDue = true;
    this.#file
      .write(message, 0, message.length, null)
      .catch((error) => this.#receive(refusal(message, error)));
  }

  async #readLoop(): Promise<void> {
    const buffer = Buffer.allocUnsafe(headerBytes + payloadBytesMax);
    try {
      while (!this.#closing) {
        const { bytesRead } = await this.#file.read(buffer, 0, buffer.length, null);
        if (bytesRead === 0) throw new XenstoreError('ECONNRESET', 'the xenbus device ended');
        if (this.#closing) break;
        for (const message of this.#decoder.push(buffer.subarray(0, bytesRead))) {
          this.#receive(message);
        }
      }
    } catch (error) {
      this.#lose(error as Error);
    }
    process.removeListener('exit', this.#onExit);
    await this.#file.close();
  }

  #receive(message: Message): void {
    if (message.type !== messageType.watchEvent) this.#answerDue = false;
    if (!this.#closing) this.#handlers.onMessage(message);
    this.#writeNext();
  }

  /** No more requests, and an answer to end the read: the one that is due, or one asked for. */
  #stop(): void {
    if (this.#closing) return;
    this.#closing = true;
    this.#waiting.length = 0;
    this.#waiting.push(wakeRequest);
    this.#writeNext();
  }

  #wakeAtExit(): void {
    if (this.#answerDue) return;
    try {
      writeSync(this.#file.fd, wakeRequest);
    } catch {
      // The device is gone, then so is the read; and nobody is left to tell.
    }
  }

  #lose(error: Error): void {
    if (this.#closing) return;
    this.#stop();
    this.#handlers.onLost(error);
  }
}

/** The kernel refuses some requests, watches above all, by the errno of write(). */
function refusal(request: Buffer, { code = 'EIO' }: NodeJS.ErrnoException): Message {
  return {
    type: messageType.error,
    requestId: request.readUInt32LE(4),
    transaction: request.readUInt32LE(8),
    payload: encodeStrings(code),
  };
}
