// SPDX-License-Identifier: Apache-2.0
// DeviceLink over a file that behaves as /dev/xen/xenbus does: reads block until there is an
// answer.
import { beforeEach, describe, expect, it } from 'vitest';
import { type DeviceFile, DeviceLink } from '../../../src/xenstore/link.ts';
import {
  encodeMessage,
  encodeStrings,
  type Message,
  messageType,
} from '../../../src/xenstore/wire.ts';

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

async function turns(): Promise<void> {
  for (let count = 0; count < 10; count++) await turn();
}

const message = encodeMessage({
  type: messageType.read,
  requestId: 1,
  transaction: 0,
  payload: encodeStrings('/a'),
});
const watchEvent = encodeMessage({
  type: messageType.watchEvent,
  requestId: 0,
  transaction: 0,
  payload: encodeStrings('/a', '1'),
});
const exitListeners = () => process.listenerCount('exit');

let device: FakeDevice;
let received: Message[];
let losses: Error[];
let link: DeviceLink;
let exitListenersBefore: number;

beforeEach(() => {
  device = new FakeDevice();
  received = [];
  losses = [];
  exitListenersBefore = exitListeners();
  link = new DeviceLink(device as unknown as DeviceFile, {
    onMessage: (each) => received.push(each),
    onLost: (error) => losses.push(error),
  });
});

describe('DeviceLink', () => {
  it('writes the next request after the last answer, and reads with one read', async () => {
    for (let count = 0; count < 3; count++) link.send(message);
    for (let count = 1; count <= 3; count++) {
      await turns();
      expect(device.writes.length).toBe(count);
      device.answer(watchEvent);
      await turns();
      expect(device.writes.length).toBe(count);
      device.answer(message.subarray(0, 5));
      device.answer(message.subarray(5));
    }
    await turns();
    await link.close();
    expect(device.writes.slice(0, 3)).toEqual([message, message, message]);
    expect([device.readsAtOnceMax, device.writesAtOnceMax]).toEqual([1, 1]);
    const { read, watchEvent: event } = messageType;
    expect(received.map(({ type }) => type)).toEqual([event, read, event, read, event, read]);
  });

  it('sends nothing into a request that is under way, also to close', async () => {
    link.send(message);
    link.send(message);
    await turns();
    const closed = link.close();
    await turns();
    expect(device.writes).toEqual([message]);
    device.answer(message);
    await closed;
    expect(device.writes).toEqual([message]);
    expect(device.closed).toBe(true);
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

  it('takes the errno of a write as the answer to that request alone', async () => {
    device.writeError = Object.assign(new Error('no'), { code: 'EACCES' });
    link.send(message);
    await turns();
    device.writeError = undefined;
    link.send(message);
    await turns();
    expect(device.writes.length).toBe(1);
    expect(received).toEqual([
      {
        type: messageType.error,
        requestId: 1,
        transaction: 0,
        payload: encodeStrings('EACCES'),
      },
    ]);
    expect(losses).toEqual([]);
    device.answer(message);
    await link.close();
  });

  it.each([
    ['a failing read', () => device.answer(new Error('EIO'))],
    ['the end of the file', () => device.answer(Buffer.alloc(0))],
    ['a length out of bounds', () => device.answer(Buffer.alloc(16, 0xff))],
  ])('reports %s once', async (_, fail) => {
    fail();
    await turns();
    expect(losses.length).toBe(1);
    device.answer(Buffer.alloc(0));
    await link.close();
    expect(losses.length).toBe(1);
    expect(device.closed).toBe(true);
  });
});
