// SPDX-License-Identifier: Apache-2.0
// Any nodes below a frontend's directory: what comes out is within every bound, or one error names
// the node; and the number of nodes read is none that a guest can choose.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  type FrontendNodes,
  readFrontendNodes,
  readFrontendState,
} from '../../src/blkif/frontend_nodes.ts';
import { NegotiationError } from '../../src/errors.ts';
import { corpus, fuzzRuns } from './corpus.ts';

const limits = { queuesMax: 8, ringPageOrderMax: 4 };
const pagesMax = 1 << limits.ringPageOrderMax;
const readsMax = 16 + limits.queuesMax * (pagesMax + 2);

const folders = ['', ...Array.from({ length: limits.queuesMax + 1 }, (_, i) => `queue-${i}/`)];
const perQueue = [
  'event-channel',
  'ring-ref',
  ...Array.from({ length: 17 }, (_, i) => `ring-ref${i}`),
];
const flat = ['state', 'protocol', 'feature-persistent', 'multi-queue-num-queues'];
const sizes = ['ring-page-order', 'num-ring-pages'];
const names = [...flat, ...sizes, ...folders.flatMap((f) => perQueue.map((node) => f + node))];

/** Values as frontends write them, nearly so, and not at all. */
const value = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: 0, max: 40 }).map(String) },
  {
    weight: 2,
    arbitrary: fc.constantFrom('x86_64-abi', 'x86_32-abi', '', ' 1', '+1', '0x10', '1e3'),
  },
  { weight: 1, arbitrary: fc.bigInt({ min: -1n, max: 1n << 70n }).map(String) },
  { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 40 }) },
);

/** A file of the corpus: lines of "node value". */
const nodes = fc
  .oneof(plausible(), fc.array(fc.tuple(fc.constantFrom(...names), value), { maxLength: 40 }))
  .map((pairs) => Buffer.from(pairs.map(([node, text]) => `${node} ${text}`).join('\n')));

/** A frontend that does everything right, but for what is changed afterwards. */
function plausible(): fc.Arbitrary<[string, string][]> {
  return fc
    .record({
      queues: fc.integer({ min: 1, max: limits.queuesMax }),
      order: fc.integer({ min: 0, max: limits.ringPageOrderMax }),
      changes: fc.array(fc.tuple(fc.constantFrom(...names), value), { maxLength: 3 }),
    })
    .map(({ queues, order, changes }) => [...lawful(queues, order), ...changes]);
}

function lawful(queues: number, order: number): [string, string][] {
  const pairs: [string, string][] = [
    ['multi-queue-num-queues', String(queues)],
    ['ring-page-order', String(order)],
  ];
  for (let queue = 0; queue < queues; queue++) {
    pairs.push([`queue-${queue}/event-channel`, String(queue + 1)]);
    for (let page = 0; page < 1 << order; page++)
      pairs.push([`queue-${queue}/ring-ref${page}`, String(queue * pagesMax + page + 8)]);
  }
  return pairs;
}

function checkBounds(agreed: FrontendNodes): void {
  expect(agreed.queues.length).toBeGreaterThanOrEqual(1);
  expect(agreed.queues.length).toBeLessThanOrEqual(limits.queuesMax);
  expect(agreed.ringPageOrder).toBeLessThanOrEqual(limits.ringPageOrderMax);
  const refs = agreed.queues.flatMap((queue) => queue.ringRefs);
  const ports = agreed.queues.map((queue) => queue.eventChannel);
  for (const queue of agreed.queues) expect(queue.ringRefs.length).toBe(1 << agreed.ringPageOrder);
  expect(new Set(refs).size).toBe(refs.length);
  expect(new Set(ports).size).toBe(ports.length);
  for (const ref of refs)
    expect(Number.isInteger(ref) && ref >= 0 && ref <= 0xffff_ffff).toBe(true);
  for (const port of ports) expect(Number.isInteger(port) && port > 0 && port < 131072).toBe(true);
}

async function check(file: Buffer): Promise<void> {
  const found = new Map<string, string>();
  for (const line of file.toString('utf8').split('\n')) {
    const space = line.indexOf(' ');
    if (space > 0) found.set(line.slice(0, space), line.slice(space + 1));
  }
  let reads = 0;
  const read = async (node: string) => {
    reads++;
    return found.get(node);
  };
  for (const step of [() => readFrontendNodes(read, limits), () => readFrontendState(read)]) {
    try {
      const result = await step();
      if (typeof result !== 'string') checkBounds(result);
    } catch (error) {
      if (!(error instanceof NegotiationError)) throw error;
      expect(error.message.length).toBeLessThan(300);
    }
  }
  expect(reads).toBeLessThanOrEqual(readsMax);
}

test('any nodes', async () => {
  const examples = corpus('frontend_nodes');
  await fc.assert(fc.asyncProperty(nodes, check), { numRuns: fuzzRuns, examples });
});
