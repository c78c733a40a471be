// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readFrontendNodes, readFrontendState } from '../../../src/blkif/frontend_nodes.ts';
import { NegotiationError } from '../../../src/errors.ts';

const limits = { queuesMax: 8, ringPageOrderMax: 4 };
const flat = { 'ring-ref': '8', 'event-channel': '5', protocol: 'x86_64-abi' };

type Nodes = Record<string, string>;

function read(nodes: Nodes, atMost = limits) {
  return readFrontendNodes(async (node) => nodes[node], atMost);
}

function pages(prefix: string, count: number, first: number): Nodes {
  const entries = Array.from({ length: count }, (_, index) => [
    `${prefix}ring-ref${index}`,
    String(first + index),
  ]);
  return Object.fromEntries(entries);
}

describe('what frontends write', () => {
  test('one queue of one page', async () => {
    expect(await read({ ...flat, 'feature-persistent': '1' })).toEqual({
      abi: 'x86_64',
      ringPageOrder: 0,
      persistent: true,
      queues: [{ ringRefs: [8], eventChannel: 5 }],
    });
  });

  test('the least: a ring and a port', async () => {
    expect(await read({ 'ring-ref': '8', 'event-channel': '5' })).toEqual({
      abi: 'native',
      ringPageOrder: 0,
      persistent: false,
      queues: [{ ringRefs: [8], eventChannel: 5 }],
    });
  });

  test('one page by its numbered name', async () => {
    const nodes = { 'ring-page-order': '0', 'ring-ref0': '9', 'event-channel': '5' };
    expect((await read(nodes)).queues).toEqual([{ ringRefs: [9], eventChannel: 5 }]);
    expect((await read({ ...nodes, 'ring-ref': '8' })).queues[0]?.ringRefs).toEqual([8]);
  });

  test('sixteen pages', async () => {
    const nodes = { 'ring-page-order': '4', 'event-channel': '5', ...pages('', 16, 100) };
    const { ringPageOrder, queues } = await read(nodes);
    expect(ringPageOrder).toBe(4);
    expect(queues[0]?.ringRefs).toEqual(Array.from({ length: 16 }, (_, index) => 100 + index));
  });

  test('the older word for the number of pages', async () => {
    const nodes = { 'num-ring-pages': '4', 'event-channel': '5', ...pages('', 4, 1) };
    expect((await read(nodes)).ringPageOrder).toBe(2);
    expect((await read({ ...nodes, 'ring-page-order': '1' })).queues[0]?.ringRefs).toEqual([1, 2]);
  });

  test('several queues of several pages', async () => {
    const nodes: Nodes = { 'multi-queue-num-queues': '3', 'ring-page-order': '1' };
    for (const index of [0, 1, 2]) {
      nodes[`queue-${index}/event-channel`] = String(50 + index);
      Object.assign(nodes, pages(`queue-${index}/`, 2, 10 * (index + 1)));
    }
    expect((await read(nodes)).queues).toEqual([
      { ringRefs: [10, 11], eventChannel: 50 },
      { ringRefs: [20, 21], eventChannel: 51 },
      { ringRefs: [30, 31], eventChannel: 52 },
    ]);
  });

  test('a single queue may be flat or have a folder', async () => {
    const inFolder = {
      'multi-queue-num-queues': '1',
      'queue-0/ring-ref': '8',
      'queue-0/event-channel': '5',
    };
    const expected = [{ ringRefs: [8], eventChannel: 5 }];
    expect((await read(inFolder)).queues).toEqual(expected);
    expect((await read({ ...flat, 'multi-queue-num-queues': '1' })).queues).toEqual(expected);
  });
});

describe('what is refused, by name and value', () => {
  const twoQueues = {
    'multi-queue-num-queues': '2',
    'queue-0/ring-ref': '8',
    'queue-0/event-channel': '5',
    'queue-1/ring-ref': '9',
    'queue-1/event-channel': '6',
  };
  const bad: [string, Nodes, string, string][] = [
    ['no ring', { 'event-channel': '5' }, 'ring-ref', 'missing'],
    ['no port', { 'ring-ref': '8' }, 'event-channel', 'missing'],
    ['nothing', {}, 'event-channel', 'missing'],
    ['a bad ring', { ...flat, 'ring-ref': 'x' }, 'ring-ref', '"x"'],
    ['an empty ring', { ...flat, 'ring-ref': '' }, 'ring-ref', '""'],
    ['port 0', { ...flat, 'event-channel': '0' }, 'event-channel', '"0"'],
    ['a port beyond', { ...flat, 'event-channel': '131072' }, 'event-channel', '"131072"'],
    ['a foreign ABI', { ...flat, protocol: 'arm-abi' }, 'protocol', '"arm-abi"'],
    ['a bad flag', { ...flat, 'feature-persistent': '2' }, 'feature-persistent', '"2"'],
    ['no queue', { ...flat, 'multi-queue-num-queues': '0' }, 'multi-queue-num-queues', '"0"'],
    ['nine queues', { ...flat, 'multi-queue-num-queues': '9' }, 'multi-queue-num-queues', '"9"'],
    ['order 5', { ...flat, 'ring-page-order': '5' }, 'ring-page-order', '"5"'],
    ['three pages', { ...flat, 'num-ring-pages': '3' }, 'num-ring-pages', '"3"'],
    [
      'a missing page',
      { ...flat, 'ring-page-order': '1', 'ring-ref0': '1' },
      'ring-ref1',
      'missing',
    ],
    [
      'a page twice',
      { ...flat, 'ring-page-order': '1', 'ring-ref0': '1', 'ring-ref1': '1' },
      'ring-ref',
      '"1"',
    ],
    [
      'a missing queue',
      { ...twoQueues, 'multi-queue-num-queues': '3' },
      'queue-2/event-channel',
      'missing',
    ],
    [
      'a port twice',
      { ...twoQueues, 'queue-1/event-channel': '5' },
      'queue-1/event-channel',
      '"5"',
    ],
    ['a ring twice', { ...twoQueues, 'queue-1/ring-ref': '8' }, 'queue-1/ring-ref', '"8"'],
  ];

  test.each(bad)('%s', async (_what, nodes, node, value) => {
    const error = await read(nodes).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(NegotiationError);
    expect(error).toMatchObject({ node, value, code: 'FRONTEND_NODE_INVALID' });
    expect((error as Error).message).toContain(`frontend node ${node} is ${value}, not `);
  });

  test('more than was offered', async () => {
    const little = { queuesMax: 1, ringPageOrderMax: 1 };
    await expect(read(twoQueues, little)).rejects.toThrow(/is "2", not at most 1, as offered/);
    await expect(read({ ...flat, 'ring-page-order': '2' }, little)).rejects.toThrow(/at most 1/);
    await expect(read({ ...flat, 'num-ring-pages': '4' }, little)).rejects.toThrow(/at most 2/);
  });

  test('a long value is cut short and escaped', async () => {
    const value = `\u001b[2J${'A'.repeat(5000)}`;
    const error = (await read({ ...flat, 'ring-ref': value }).catch(
      (one) => one,
    )) as NegotiationError;
    expect(error.value.length).toBeLessThan(80);
    expect(error.message.length).toBeLessThan(200);
    expect(error.message).toContain('"\\u001b[2JAAA');
    expect(error.message).toMatch(/^[\x20-\x7e…]*$/);
  });
});

test('any directory is refused by name or read within bounds, with bounded reads', async () => {
  const names = [
    'ring-ref',
    'ring-ref0',
    'ring-ref1',
    'event-channel',
    'protocol',
    'ring-page-order',
  ];
  const more = ['num-ring-pages', 'multi-queue-num-queues', 'queue-0/ring-ref', 'queue-1/ring-ref'];
  const node = fc.constantFrom(...names, ...more, 'queue-0/event-channel', 'queue-1/event-channel');
  const value = fc.oneof(
    fc.integer({ min: -1, max: 20 }).map(String),
    fc.constantFrom('x86_64-abi', 'x86_32-abi', '4294967295', '1e9', ''),
    fc.string({ unit: 'binary' }),
  );
  await fc.assert(
    fc.asyncProperty(fc.dictionary(node, value), async (nodes) => {
      let reads = 0;
      const counted = async (name: string) => {
        reads++;
        return Object.hasOwn(nodes, name) ? nodes[name] : undefined;
      };
      try {
        const { queues, ringPageOrder } = await readFrontendNodes(counted, limits);
        expect(queues.length).toBeGreaterThan(0);
        expect(queues.length).toBeLessThanOrEqual(limits.queuesMax);
        for (const { ringRefs, eventChannel } of queues) {
          expect(ringRefs).toHaveLength(1 << ringPageOrder);
          expect(eventChannel).toBeGreaterThan(0);
        }
      } catch (error) {
        expect(error).toBeInstanceOf(NegotiationError);
      }
      expect(reads).toBeLessThanOrEqual(7 + limits.queuesMax * 18);
    }),
    { numRuns: 500 },
  );
});

describe('readFrontendState', () => {
  test('no node: Unknown', async () => {
    expect(await readFrontendState(async () => undefined)).toBe('Unknown');
  });

  test('a state', async () => {
    expect(await readFrontendState(async () => '3')).toBe('Initialised');
  });

  test('no state', async () => {
    await expect(readFrontendState(async () => '99')).rejects.toThrow(/state is "99", not a state/);
  });
});
