// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Discovery } from '../../../src/vbd/discover.ts';
import { vbdName } from '../../../src/vbd/id.ts';
import { MemoryStore } from '../../../src/xenstore/memory_store.ts';
import { eventually, quiet } from '../../support/control_plane.ts';

const root = '/local/domain/0/backend';
let changed: string[];
let kinds: string[];
let failures: unknown[];
let discovery: Discovery;
const store = new MemoryStore();
const xenstore = store.client(0);

beforeEach(async () => {
  await xenstore.remove(root);
  changed = [];
  kinds = [];
  failures = [];
  discovery = new Discovery(xenstore, 0, {
    changed: (id) => changed.push(vbdName(id)),
    changedAbove: (kind, domid) => kinds.push(domid === undefined ? kind : `${kind}/${domid}`),
    failed: (_kind, error) => failures.push(error),
  });
});

afterEach(async () => {
  await discovery.stop();
  expect(failures).toEqual([]);
});

test('reports what is there before start() resolves', async () => {
  await xenstore.write(`${root}/vbd3/1/51712/state`, '1');
  await xenstore.write(`${root}/vbd3/2/51728/state`, '4');
  await xenstore.write(`${root}/qdisk/2/5632/state`, '1');
  await xenstore.write(`${root}/vif/2/0/state`, '1');
  await discovery.start(['vbd3', 'qdisk']);
  expect(new Set(changed)).toEqual(new Set(['vbd3/1/51712', 'vbd3/2/51728', 'qdisk/2/5632']));
});

test('reports what appears, changes and goes', async () => {
  await discovery.start(['vbd3']);
  await xenstore.write(`${root}/vbd3/1/51712/state`, '1');
  await eventually(() => changed.includes('vbd3/1/51712'), 'the new device');
  await quiet();
  changed.length = 0;
  await xenstore.write(`${root}/vbd3/1/51712/online`, '0');
  await eventually(() => changed.includes('vbd3/1/51712'), 'the changed device');
  changed.length = 0;
  await xenstore.remove(`${root}/vbd3/1/51712`);
  await eventually(() => changed.includes('vbd3/1/51712'), 'the removed device');
});

test('a removed domain or kind concerns all its devices', async () => {
  await xenstore.write(`${root}/vbd3/1/51712/state`, '1');
  await discovery.start(['vbd3']);
  await quiet();
  kinds.length = 0;
  await xenstore.remove(`${root}/vbd3/1`);
  await eventually(() => kinds.includes('vbd3/1'), 'the domain');
  // A guest that ends concerns nobody else.
  expect(kinds).not.toContain('vbd3');
  kinds.length = 0;
  await xenstore.remove(`${root}/vbd3`);
  await eventually(() => kinds.includes('vbd3'), 'the kind');
});

test('names that are no numbers are nobody', async () => {
  await xenstore.write(`${root}/vbd3/x/51712/state`, '1');
  await xenstore.write(`${root}/vbd3/1/-5/state`, '1');
  await xenstore.write(`${root}/vbd3/99999999/1/state`, '1');
  await discovery.start(['vbd3']);
  await quiet();
  expect(changed).toEqual([]);
});
