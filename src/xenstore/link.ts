// SPDX-License-Identifier: Apache-2.0
// The byte stream to xenstored: its socket where xenstored runs in this domain, else the kernel's
// character device.
import { writeSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { XenstoreError } from './client.ts';
import { encodeMessage, encodeStrings, headerBytes, messageType, payloadBytesMax } from './wire.ts';

export interface LinkHandlers {
  /** The bytes are only lent: they change once this returns. */
  onData(chunk: Buffer): void;
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
    socket.on('data', (chunk) => handlers.onData(chunk));
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
 * /dev/xen/xenbus. A read blocks there until a message arrives, and Node offers no poll() for such a
 * file, so one thread of libuv's pool (of 4 by default) sits in read() as long as the link is open;
 * writes use another for a moment. There is one read at a time, without a position: the device takes
 * neither two readers nor pread().
 *
 * Nothing interrupts that read from here, and a process whose pool thread is blocked cannot exit. So
 * closing, and exiting without having closed, asks xenstored something: the answer ends the read.
 * (Where xenstored itself has died, only SIGKILL ends the process.)
 */
export class DeviceLink implements Link {
  readonly #file: DeviceFile;
  readonly #handlers: LinkHandlers;
  readonly #reading: Promise<void>;
  readonly #onExit: () => void;
  #writes: Promise<void> = Promise.resolve();
  #closing = false;

  constructor(file: DeviceFile, handlers: LinkHandlers) {
    this.#file = file;
    this.#handlers = handlers;
    this.#onExit = () => this.#wakeAtExit();
    process.once('exit', this.#onExit);
    this.#reading = this.#readLoop();
  }

  /** The kernel takes one message per write(), so writes are neither joined nor overlapping. */
  send(message: Buffer): void {
    this.#writes = this.#writes.then(async () => {
      if (this.#closing && message !== wakeRequest) return;
      try {
        await this.#file.write(message, 0, message.length, null);
      } catch (error) {
        this.#lose(error as Error);
      }
    });
  }

  /** Resolves when the read has ended, or when xenstored has not answered for two seconds. */
  async close(): Promise<void> {
    if (!this.#closing) {
      this.#closing = true;
      this.send(wakeRequest);
    }
    let timer: NodeJS.Timeout | undefined;
    const tooLate = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, closeWaitMs);
    });
    await Promise.race([this.#reading, tooLate]);
    clearTimeout(timer);
  }

  async #readLoop(): Promise<void> {
    const buffer = Buffer.allocUnsafe(headerBytes + payloadBytesMax);
    try {
      while (!this.#closing) {
        const { bytesRead } = await this.#file.read(buffer, 0, buffer.length, null);
        if (bytesRead === 0) throw new XenstoreError('ECONNRESET', 'the xenbus device ended');
        if (!this.#closing) this.#handlers.onData(buffer.subarray(0, bytesRead));
      }
    } catch (error) {
      this.#lose(error as Error);
    }
    process.removeListener('exit', this.#onExit);
    await this.#file.close();
  }

  #wakeAtExit(): void {
    try {
      writeSync(this.#file.fd, wakeRequest);
    } catch {
      // The device is gone, then so is the read; and nobody is left to tell.
    }
  }

  #lose(error: Error): void {
    if (this.#closing) return;
    this.#closing = true;
    this.#handlers.onLost(error);
    this.send(wakeRequest);
  }
}
