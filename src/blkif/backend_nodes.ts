// SPDX-License-Identifier: Apache-2.0
// The backend directory: what the toolstack wrote there, and how we write ours.
import { BackendNodeError } from '../errors.ts';
import type { XenstoreClient, XenstoreRequests } from '../xenstore/client.ts';
import { BACKEND_NODES, type NodeSpec, type NodeValues, TOOLSTACK_NODES } from './features.ts';
import type { XenbusStateName } from './xenbus_state.ts';

export type ToolstackNodes = {
  readonly [Key in keyof typeof TOOLSTACK_NODES]:
    | NodeValues<typeof TOOLSTACK_NODES>[Key]
    | undefined;
};

export type BackendValues = Partial<NodeValues<typeof BACKEND_NODES>>;

/** Our directory as it is: what the toolstack wants, and what state it shows. */
export interface BackendDirectory {
  /** Unknown where the node holds no state; then `problem` says so. */
  readonly state: XenbusStateName;
  /** A node that makes no sense counts as absent here. */
  readonly toolstack: ToolstackNodes;
  /** The first node that makes no sense. It must not hide a removal, so it is not thrown. */
  readonly problem: BackendNodeError | undefined;
  /** The same of what the guest may ask a second: no reason to take its disk away. */
  readonly limitsProblem: BackendNodeError | undefined;
}

/** undefined: there is no such device (any more). */
export async function readBackendDirectory(
  requests: XenstoreRequests,
  directory: string,
): Promise<BackendDirectory | undefined> {
  const read = (spec: NodeSpec<unknown>) => requests.read(`${directory}/${spec.node}`);
  const keys = Object.keys(TOOLSTACK_NODES) as (keyof typeof TOOLSTACK_NODES)[];
  const [stateText, ...texts] = await Promise.all([
    read(BACKEND_NODES.state as NodeSpec<unknown>),
    ...keys.map((key) => read(TOOLSTACK_NODES[key] as NodeSpec<unknown>)),
  ]);
  if (stateText === undefined) return undefined;
  let problem: BackendNodeError | undefined;
  let limitsProblem: BackendNodeError | undefined;
  const parse = <T>(spec: NodeSpec<T>, text: string | undefined): T | undefined => {
    if (text === undefined) return spec.absent;
    const value = spec.type.parse(text);
    if (value !== undefined) return value;
    const found = new BackendNodeError(spec.node, text, spec.type.expects);
    if (spec.node === TOOLSTACK_NODES.limits.node) limitsProblem = found;
    else problem ??= found;
    return spec.absent;
  };
  const state = parse(BACKEND_NODES.state, stateText) ?? 'Unknown';
  const entries = keys.map((key, index) => [
    key,
    parse<unknown>(TOOLSTACK_NODES[key] as NodeSpec<unknown>, texts[index]),
  ]);
  const toolstack = Object.fromEntries(entries) as ToolstackNodes;
  return { state, toolstack, problem, limitsProblem };
}

/** The nodes and texts that stand for `values`; `state` comes last. */
export function encodeBackendValues(values: BackendValues): [node: string, text: string][] {
  const encoded: [string, string][] = [];
  const { state, ...others } = values;
  for (const [key, value] of Object.entries(others)) {
    if (value === undefined) continue;
    const spec = BACKEND_NODES[key as keyof BackendValues] as NodeSpec<unknown>;
    encoded.push([spec.node, spec.type.format(value)]);
  }
  if (state !== undefined) {
    encoded.push([BACKEND_NODES.state.node, BACKEND_NODES.state.type.format(state)]);
  }
  return encoded;
}

export type PublishResult = 'published' | 'moved' | 'gone';

/**
 * Writes `values`, and removes others, in one transaction, unless the device is gone (writing would
 * bring its directory back from the dead) or its state is not `expected` any more: then the
 * toolstack wants something new.
 */
export async function publish(
  xenstore: XenstoreClient,
  directory: string,
  expected: XenbusStateName,
  values: BackendValues,
  removed: readonly (keyof BackendValues)[] = [],
): Promise<PublishResult> {
  return xenstore.transaction(async (requests) => {
    const text = await requests.read(`${directory}/${BACKEND_NODES.state.node}`);
    if (text === undefined) return 'gone';
    if ((BACKEND_NODES.state.type.parse(text) ?? 'Unknown') !== expected) return 'moved';
    for (const key of removed) await requests.remove(`${directory}/${BACKEND_NODES[key].node}`);
    for (const [node, value] of encodeBackendValues(values)) {
      await requests.write(`${directory}/${node}`, value);
    }
    return 'published';
  });
}
