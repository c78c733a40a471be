// SPDX-License-Identifier: Apache-2.0
// DeviceLink over a file that behaves as /dev/xen/xenbus does: reads block until there is an answer.
import { beforeEach, describe, expect, it } from 'vitest';
import { type DeviceFile, DeviceLink } from '../../../src/xenstore/link.ts';
import { encodeMessage, encodeStrings, messageType } from '../../../src/xenstore/wire.ts';

class FakeDevice {
  readonly writes: Buffer[] = [];
  readsUnderWay = 0;
  readsAtOnceMax = 0;
  writesUnderWay = 0;
  writesAtOnceMax = 0;
  closed = false;
  writeError: Error | undefined;
  readonly fd = -1;
  readonly #answers: (Buffer | Error)[] = [];
  #wake: () => void = () => undefined;

  answer(bytes: Buffer | Error): void {
    this.#answers.push(bytes);
    this.#wake();
  }

  async read(into: Buffer, offset: number, length: number, position: null) {
    expect(position).toBeNull();
    this.readsAtOnceMax = Math.max(this.readsAtOnceMax, ++this.readsUnderWay);
    while (this.#answers.length === 0) await new Promise<void>((wake) => (this.#wake = wake));
    this.readsUnderWay--;
    const answer = this.#answers.shift() as Buffer | Error;
    if (answer instanceof Error) throw answer;
    return { bytesRead: answer.copy(into, offset, 0, length), buffer: into };
  }

  async write(bytes: Buffer) {
    this.writesAtOnceMax = Math.max(this.writesAtOnceMax, ++this.writesUnderWay);
    await turn();
    this.writesUnderWay--;
    if (this.writeError) throw this.writeError;
    this.writes.push(Buffer.from(bytes));
    if (bytes.readUInt32LE(0) === messageType.getDomainPath) this.answer(bytes);
    return { bytesWritten: bytes.length, buffer: bytes };
  }

  async close(): Promise<void> {
    this.closed = true;
  }
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

const message = encodeMessage({
  type: messageType.read,
  requestId: 1,
  transaction: 0,
  payload: encodeStrings('/a'),
});
const exitListeners = () => process.listenerCount('exit');

let device: FakeDevice;
let received: Buffer[];
let losses: Error[];
let link: DeviceLink;
let exitListenersBefore: number;

beforeEach(() => {
  device = new FakeDevice();
  received = [];
  losses = [];
  exitListenersBefore = exitListeners();
  link = new DeviceLink(device as unknown as DeviceFile, {
    onData: (chunk) => received.push(Buffer.from(chunk)),
    onLost: (error) => losses.push(error),
  });
});

describe('DeviceLink', () => {
  it('writes one message at a time and reads with one read at a time', async () => {
    for (let count = 0; count < 5; count++) link.send(message);
    for (const text of ['a', 'b']) {
      device.answer(Buffer.from(text));
      await turn();
    }
    while (device.writes.length < 5) await turn();
    await link.close();
    expect(device.writes.slice(0, 5)).toEqual(Array(5).fill(message));
    expect([device.readsAtOnceMax, device.writesAtOnceMax]).toEqual([1, 1]);
    expect(received.map(String)).toEqual(['a', 'b']);
  });

  it('wakes its blocked read to close, and hands nothing out any more', async () => {
    expect(exitListeners()).toBe(exitListenersBefore + 1);
    await link.close();
    expect(device.closed).toBe(true);
    expect(device.readsUnderWay).toBe(0);
    expect([received, losses]).toEqual([[], []]);
    expect(exitListeners()).toBe(exitListenersBefore);
    await link.close();
  });

  it.each([
    ['a failing read', () => device.answer(new Error('EIO'))],
    ['the end of the file', () => device.answer(Buffer.alloc(0))],
    [
      'a failing write',
      () => {
        device.writeError = new Error('EIO');
        link.send(message);
        link.send(message);
      },
    ],
  ])('reports %s once', async (_, fail) => {
    fail();
    for (let turns = 0; turns < 10; turns++) await turn();
    expect(losses.length).toBe(1);
    device.answer(Buffer.alloc(0));
    await link.close();
    expect(losses.length).toBe(1);
    expect(device.closed).toBe(true);
  });
});
