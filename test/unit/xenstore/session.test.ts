// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, it } from 'vitest';
import type { XenstoreError } from '../../../src/xenstore/client.ts';
import type { LinkHandlers } from '../../../src/xenstore/link.ts';
import { inFlightMax, Session } from '../../../src/xenstore/session.ts';
import {
  encodeStrings,
  type Message,
  MessageDecoder,
  messageType,
} from '../../../src/xenstore/wire.ts';

let session: Session;
let handlers: LinkHandlers;
let sent: Message[];
let events: [path: string, token: string][];
let losses: Error[];
let linkCloses: number;

beforeEach(async () => {
  sent = [];
  events = [];
  losses = [];
  linkCloses = 0;
  const decoder = new MessageDecoder();
  const openLink = async (given: LinkHandlers) => {
    handlers = given;
    return {
      send: (bytes: Buffer) => void sent.push(...decoder.push(bytes)),
      close: async () => void linkCloses++,
    };
  };
  session = await Session.open(openLink, {
    onWatchEvent: (path, token) => events.push([path, token]),
    onLost: (error) => losses.push(error),
  });
});

function read(path: string): Promise<Buffer> {
  const payload = encodeStrings(path);
  return session.request({ type: messageType.read, transaction: 0, payload, what: `read ${path}` });
}

function receive(message: Partial<Message>): void {
  const whole = { type: messageType.read, requestId: 0, transaction: 0, payload: Buffer.alloc(0) };
  handlers.onMessage({ ...whole, ...message });
}

async function errorOf(promise: Promise<unknown>): Promise<XenstoreError> {
  return promise.then(
    () => expect.fail('no error'),
    (error) => error,
  );
}

describe('requests', () => {
  it('get their own answers in any order', async () => {
    const answers = [read('/a'), read('/b')];
    for (const { requestId, payload } of sent.toReversed()) receive({ requestId, payload });
    expect((await Promise.all(answers)).map(String)).toEqual(['/a\0', '/b\0']);
  });

  it('wait when 16 are in flight', async () => {
    const answers = Array.from({ length: 40 }, (_, index) => read(`/${index}`));
    expect(sent.length).toBe(inFlightMax);
    for (let index = 0; index < 40; index++) receive({ requestId: sent[index]?.requestId ?? 0 });
    expect(sent.length).toBe(40);
    await Promise.all(answers);
  });

  it('tell what xenstored refused', async () => {
    const refused = read('/secret');
    receive({ type: messageType.error, requestId: 1, payload: encodeStrings('EACCES') });
    const error = await errorOf(refused);
    expect(error.code).toBe('EACCES');
    expect(error.message).toBe('xenstored refused to read /secret: EACCES');
  });

  it('take no error name that is none', async () => {
    const refused = read('/a');
    receive({ type: messageType.error, requestId: 1, payload: encodeStrings('<script>') });
    expect((await errorOf(refused)).code).toBe('EIO');
  });

  it('that are too long fail alone', async () => {
    const long = read(`/${'x'.repeat(5000)}`);
    const short = read('/a');
    expect((await errorOf(long)).code).toBe('E2BIG');
    receive({ requestId: sent[0]?.requestId ?? 0 });
    await short;
  });
});

describe('a loss', () => {
  it('fails what is in flight, what waits and what comes later', async () => {
    const failed = Array.from({ length: 20 }, () => errorOf(read('/a')));
    handlers.onLost(new Error('the socket closed'));
    failed.push(errorOf(read('/a')));
    for (const error of await Promise.all(failed)) {
      expect(error.code).toBe('ECONNRESET');
      expect(error.message).toBe('could not read /a: the socket closed');
    }
    expect(losses.map(String)).toEqual(['Error: the socket closed']);
  });

  it.each([
    ['an answer that nobody asked for', () => receive({ requestId: 99 })],
    ['an answer of another type', () => receive({ requestId: 1, type: messageType.write })],
    ['a watch event without token', () => receive({ type: messageType.watchEvent })],
  ])('follows from %s', async (_, misbehave) => {
    const failed = errorOf(read('/a'));
    misbehave();
    expect((await failed).code).toBe('ECONNRESET');
    expect(losses.length).toBe(1);
    expect(linkCloses).toBe(1);
    receive({ requestId: 1 });
    expect(losses.length).toBe(1);
  });

  it('by close has the code of its reason and is not reported', async () => {
    const failed = errorOf(read('/a'));
    const reason = Object.assign(new Error('closed'), { code: 'ECANCELED' }) as XenstoreError;
    await session.close(reason);
    expect((await failed).code).toBe('ECANCELED');
    expect([losses.length, linkCloses]).toEqual([0, 1]);
  });
});

it('passes watch events on', () => {
  receive({ type: messageType.watchEvent, payload: encodeStrings('/a/b', 'token') });
  expect(events).toEqual([['/a/b', 'token']]);
});
