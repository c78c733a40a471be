// SPDX-License-Identifier: Apache-2.0
import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { LimitSets } from '../../../src/vbd/limit_sets.ts';
import { temporaryFolder } from '../../support/temporary_folder.ts';

const log = pino({ level: 'silent' });
let folder: string;
let file: string;
let told: string[];
beforeEach(() => {
  folder = temporaryFolder();
  file = path.join(folder, 'limit-groups.json');
  told = [];
});
afterEach(() => rmSync(folder, { recursive: true }));

function start(): LimitSets {
  const datapath = {
    setLimits: (name: string) => void told.push(name),
    setShare: () => {},
    dropLimits: () => {},
  };
  return new LimitSets(datapath, folder, log);
}

it('reads what groups may without writing it: a death meanwhile loses none of them', () => {
  const groups = {
    web: { limits: 'iops=100', isOperators: true },
    db: { limits: 'bps=1048576', isOperators: false },
  };
  writeFileSync(file, JSON.stringify({ version: 1, groups }));
  const { ino } = statSync(file);
  const sets = start();
  expect(statSync(file).ino).toBe(ino);
  expect(told).toEqual(['group web', 'group db']);
  expect(sets.figures('web')).toEqual({ iops: 100 });
  expect(sets.isOperators('web')).toBe(true);
  expect(sets.figures('db')).toEqual({ bps: 1048576 });
});

it("keeps over a restart that a group is the toolstack's again", () => {
  const sets = start();
  sets.use('vbd3/1/51712', { group: 'web', iops: 50 });
  sets.setGroup('web', { iops: 100 });
  sets.resetGroup('web');
  expect(JSON.parse(readFileSync(file, 'utf8')).groups.web.isOperators).toBe(false);
  const next = start();
  expect(next.isOperators('web')).toBe(false);
  next.use('vbd3/1/51712', { group: 'web', iops: 50 });
  expect(next.figures('web')).toEqual({ iops: 50 });
});
