// SPDX-License-Identifier: Apache-2.0
// The frontend directory: text that a guest may change at any moment, turned into bounded values.
import type { Abi } from '../datapath/binding.ts';
import { NegotiationError } from '../errors.ts';
import { FRONTEND_NODES, type NodeSpec, queueFolder, ringRefNode } from './features.ts';
import type { XenbusStateName } from './xenbus_state.ts';

/** Reads one node below the frontend directory. */
export type ReadNode = (node: string) => Promise<string | undefined>;

/** What was offered: a frontend may use less, never more. */
export interface FrontendLimits {
  readonly queuesMax: number;
  readonly ringPageOrderMax: number;
}

export interface FrontendQueue {
  /** One grant reference per ring page. */
  readonly ringRefs: readonly number[];
  readonly eventChannel: number;
}

/** All that a frontend says about its transport and its wishes; every value is within its range. */
export interface FrontendNodes {
  readonly abi: Abi;
  readonly ringPageOrder: number;
  readonly persistent: boolean;
  readonly queues: readonly FrontendQueue[];
}

/** Unknown where there is no frontend. Throws NegotiationError for a value that is no state. */
export async function readFrontendState(read: ReadNode): Promise<XenbusStateName> {
  return (await readOptional(read, FRONTEND_NODES.state)) ?? 'Unknown';
}

/** Throws NegotiationError, naming node and value, for the first thing that is wrong. */
export async function readFrontendNodes(
  read: ReadNode,
  limits: FrontendLimits,
): Promise<FrontendNodes> {
  const queueCount = (await readOptional(read, FRONTEND_NODES.queues)) ?? 1;
  if (queueCount > limits.queuesMax) {
    throw beyondOffer(FRONTEND_NODES.queues.node, queueCount, limits.queuesMax);
  }
  const ringPageOrder = await readRingPageOrder(read, limits.ringPageOrderMax);
  const [abi, persistent, folders] = await Promise.all([
    readOptional(read, FRONTEND_NODES.protocol),
    readOptional(read, FRONTEND_NODES.persistent),
    queueFolders(read, queueCount),
  ]);
  const queues = await Promise.all(folders.map((folder) => readQueue(read, folder, ringPageOrder)));
  checkDistinct(folders, queues);
  return { abi: abi ?? 'native', ringPageOrder, persistent: persistent ?? false, queues };
}

async function readRingPageOrder(read: ReadNode, orderMax: number): Promise<number> {
  const [order, pages] = await Promise.all([
    readOptional(read, FRONTEND_NODES.ringPageOrder),
    readOptional(read, FRONTEND_NODES.ringPages),
  ]);
  if (order !== undefined) {
    if (order > orderMax) throw beyondOffer(FRONTEND_NODES.ringPageOrder.node, order, orderMax);
    return order;
  }
  if (pages === undefined) return 0;
  const { node } = FRONTEND_NODES.ringPages;
  if (pages > 1 << orderMax) throw beyondOffer(node, pages, 1 << orderMax);
  if (!Number.isInteger(Math.log2(pages))) {
    throw new NegotiationError(node, String(pages), 'a power of two');
  }
  return Math.log2(pages);
}

/** A single queue may lie flat in the directory or in a folder of its own; several have folders. */
async function queueFolders(read: ReadNode, queueCount: number): Promise<string[]> {
  const prefix = (index: number) => `${queueFolder(index)}/`;
  if (queueCount > 1) return Array.from({ length: queueCount }, (_, index) => prefix(index));
  const { node } = FRONTEND_NODES.eventChannel;
  const [flat, inFolder] = await Promise.all([read(node), read(prefix(0) + node)]);
  return flat === undefined && inFolder !== undefined ? [prefix(0)] : [''];
}

async function readQueue(read: ReadNode, folder: string, order: number): Promise<FrontendQueue> {
  const [eventChannel, ringRefs] = await Promise.all([
    readRequired(read, FRONTEND_NODES.eventChannel, folder + FRONTEND_NODES.eventChannel.node),
    order === 0 ? readSinglePage(read, folder) : readPages(read, folder, 1 << order),
  ]);
  return { ringRefs, eventChannel };
}

/** Frontends that know of multi-page rings may write "ring-ref0" for one page, too. */
async function readSinglePage(read: ReadNode, folder: string): Promise<number[]> {
  const spec = FRONTEND_NODES.ringRef;
  const ref =
    (await readOptional(read, spec, folder + spec.node)) ??
    (await readOptional(read, spec, folder + ringRefNode(0)));
  if (ref === undefined) {
    throw new NegotiationError(folder + spec.node, undefined, spec.type.expects);
  }
  return [ref];
}

async function readPages(read: ReadNode, folder: string, pages: number): Promise<number[]> {
  const nodes = Array.from({ length: pages }, (_, index) => folder + ringRefNode(index));
  return Promise.all(nodes.map((node) => readRequired(read, FRONTEND_NODES.ringRef, node)));
}

/** Two rings on one page or port would be one ring served twice. */
function checkDistinct(folders: readonly string[], queues: readonly FrontendQueue[]): void {
  const refs = new Set<number>();
  const ports = new Set<number>();
  queues.forEach(({ ringRefs, eventChannel }, index) => {
    const folder = folders[index] ?? '';
    for (const ref of ringRefs) {
      if (!refs.has(ref)) refs.add(ref);
      else throw notDistinct(folder + FRONTEND_NODES.ringRef.node, ref);
    }
    if (!ports.has(eventChannel)) ports.add(eventChannel);
    else throw notDistinct(folder + FRONTEND_NODES.eventChannel.node, eventChannel);
  });
}

async function readOptional<T>(
  read: ReadNode,
  spec: NodeSpec<T>,
  node = spec.node,
): Promise<T | undefined> {
  const text = await read(node);
  if (text === undefined) return spec.absent;
  const value = spec.type.parse(text);
  if (value === undefined) throw new NegotiationError(node, text, spec.type.expects);
  return value;
}

async function readRequired<T>(read: ReadNode, spec: NodeSpec<T>, node: string): Promise<T> {
  const value = await readOptional(read, spec, node);
  if (value === undefined) throw new NegotiationError(node, undefined, spec.type.expects);
  return value;
}

function beyondOffer(node: string, value: number, max: number): NegotiationError {
  return new NegotiationError(node, String(value), `at most ${max}, as offered`);
}

function notDistinct(node: string, value: number): NegotiationError {
  return new NegotiationError(node, String(value), 'different for each queue and page');
}
