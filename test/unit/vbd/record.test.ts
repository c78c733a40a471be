// SPDX-License-Identifier: Apache-2.0
import { readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import type { VbdId } from '../../../src/vbd/id.ts';
import type { Agreement } from '../../../src/vbd/negotiate.ts';
import { Records } from '../../../src/vbd/record.ts';
import { temporaryFolder } from '../../support/temporary_folder.ts';

const agreement: Agreement = {
  abi: 'x86_64',
  queues: [{ ringRefs: [8, 9], eventChannel: 5 }],
  ringPageOrder: 1,
  grants: 'persistent',
  indirectSegmentsMax: 256,
  readOnly: false,
  discard: true,
  secureDiscard: false,
};
const facts = {
  target: {
    params: 'aio:/srv/disk',
    kind: 'file',
    path: '/srv/disk',
    readOnly: false,
    share: false,
    identity: 'inode 7',
  },
  onError: 'stop',
  agreement,
  sectors: 2048,
} as const;

test('what is written is read by the next process, under its own name', () => {
  const folder = temporaryFolder();
  const ids: VbdId[] = [
    { kind: 'vbd3', domid: 7, devid: 51712 },
    { kind: 'my-kind-1', domid: 0, devid: 2147483647 },
  ];
  const [first, second] = ids as [VbdId, VbdId];
  const records = new Records(folder);
  for (const id of ids) records.write(id, facts);
  const next = new Records(folder);
  expect(next.list()).toEqual(expect.arrayContaining(ids));
  expect(next.read(second)).toEqual({ version: 2, pid: process.pid, ...facts });
  next.remove(first);
  expect(next.list()).toEqual([second]);
  expect([next.has(first), next.has(second)]).toEqual([false, true]);
  expect(next.read(first)).toBeUndefined();
});

test('a record goes with its own journals only; tidying keeps what belongs to a record', () => {
  const folder = temporaryFolder();
  const records = new Records(folder);
  const [a, b] = [1, 2].map((domid) => ({ kind: 'vbd3', domid, devid: 1 })) as [VbdId, VbdId];
  for (const id of [a, b]) {
    records.write(id, facts);
    for (const queue of [0, 11]) writeFileSync(records.journal(id, queue), '');
  }
  records.remove(a);
  for (const name of [
    'vbd3-3-1.queue-0',
    'vbd3-3-1.queue-0.stats',
    'vbd3-4-1.json.new',
    'of somebody else',
  ]) {
    writeFileSync(path.join(folder, 'vbds', name), '');
  }
  records.tidy();
  expect(readdirSync(path.join(folder, 'vbds')).sort()).toEqual([
    'of somebody else',
    'vbd3-2-1.json',
    'vbd3-2-1.queue-0',
    'vbd3-2-1.queue-11',
  ]);
});
