// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from 'vitest';
import type { ToolstackNodes } from '../../../src/blkif/backend_nodes.ts';
import type { XenbusStateName } from '../../../src/blkif/xenbus_state.ts';
import type { View } from '../../../src/vbd/device.ts';
import { Intent } from '../../../src/vbd/intent.ts';
import type { OurState } from '../../../src/vbd/states.ts';

function aView(state: XenbusStateName, nodes: Partial<ToolstackNodes> = {}): View {
  const toolstack = { online: true, params: 'null:1G', ...nodes } as ToolstackNodes;
  return {
    backend: { state, toolstack, problem: undefined, limitsProblem: undefined },
    frontendDir: '/local/domain/7/device/vbd/51712',
    frontend: 'Connected',
    frontendProblem: undefined,
  };
}

describe('wish', () => {
  test.each([
    ['Connected', 'Connected', true, 'serve'],
    ['Connected', 'Closing', true, 'close'],
    ['Connected', 'Closed', true, 'close'],
    ['Left', 'Closing', true, 'close'],
    ['InitWait', 'Closing', true, 'close'],
    // We wrote it ourselves, to answer the frontend.
    ['Closing', 'Closing', true, 'serve'],
    ['Closed', 'Closed', true, 'serve'],
    // Taken offline only: the frontend ends it, and nothing begins any more.
    ['Connected', 'Connected', false, 'serve'],
    ['Left', 'Connected', false, 'serve'],
    ['Initialising', 'Initialising', false, 'close'],
    ['InitWait', 'InitWait', false, 'close'],
    ['Closing', 'Closing', false, 'close'],
    ['Closed', 'Closed', false, 'close'],
  ] satisfies [OurState, XenbusStateName, boolean, string][])(
    '%s with node %s, online %s: %s',
    (ours, node, online, expected) => {
      expect(new Intent(100).wish(aView(node, { online }), ours, true)).toBe(expected);
    },
  );

  test('a close stays wished for until it is done', () => {
    const intent = new Intent(100);
    intent.close('first', { bounded: false });
    intent.close('second', { bounded: true });
    expect(intent.closeReason).toBe('first');
    expect(intent.wish(aView('Connected'), 'Connected', true)).toBe('close');
    expect(intent.wish(aView('Closing'), 'Closing', true)).toBe('close');
    intent.closed();
    expect(intent.wish(aView('Closed'), 'Closed', false)).toBe('serve');
    expect(intent.patienceMs).toBeUndefined();
  });

  test('a frontend that is made to close and does not in time counts as gone', () => {
    let now = 0;
    const intent = new Intent(100, () => now);
    const view = aView('Closing');
    expect(intent.patienceMs).toBeUndefined();
    intent.close('by force', { bounded: true });
    intent.wish(view, 'Connected', true);
    now = 99;
    intent.wish(view, 'Closing', true);
    expect(intent.patienceMs).toBe(1);
    expect(intent.frontend(view)).toBe('Connected');
    now = 150;
    expect(intent.frontend(view)).toBe('Unknown');
  });

  test('one that uses the disk is asked, and keeps it until somebody forces it', () => {
    let now = 0;
    const intent = new Intent(100, () => now);
    const view = aView('Closing');
    expect(intent.wish(view, 'Connected', true)).toBe('close');
    now = 10_000;
    expect(intent.wish(view, 'Closing', true)).toBe('close');
    expect(intent.patienceMs).toBeUndefined();
    expect(intent.frontend(view)).toBe('Connected');
    intent.close('by force', { bounded: true });
    intent.wish(view, 'Closing', true);
    expect(intent.patienceMs).toBe(100);
  });

  test('one whose disk nobody serves is waited for a while only', () => {
    const intent = new Intent(100, () => 0);
    intent.wish(aView('Closing'), 'InitWait', false);
    expect(intent.patienceMs).toBe(100);
  });
});

describe('offers', () => {
  test('a refused offer is tried again when the nodes change, not before', () => {
    const intent = new Intent(100);
    const view = aView('Initialising');
    intent.refused(view, true);
    expect(intent.refusal(aView('Closed'))).toBe('final');
    expect(intent.refusal(aView('Initialising', { params: 'null:2G' }))).toBeUndefined();
    intent.closed();
    expect(intent.refusal(view)).toBeUndefined();
    intent.refused(view, false);
    expect(intent.refusal(view)).toBe('for now');
    intent.forgetRefusal();
    expect(intent.refusal(view)).toBeUndefined();
  });

  test('an offer is stale when what it was made of changes', () => {
    const intent = new Intent(100);
    const view = aView('InitWait');
    expect(intent.isStale(view)).toBe(true);
    intent.offered(view);
    expect(intent.isStale(view)).toBe(false);
    expect(intent.isStale(aView('InitWait', { online: false }))).toBe(false);
    expect(intent.isStale(aView('InitWait', { params: '' }))).toBe(true);
    intent.refused(aView('InitWait', { params: '' }), true);
    expect(intent.isStale(view)).toBe(true);
  });
});
