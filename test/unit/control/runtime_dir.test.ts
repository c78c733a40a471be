// SPDX-License-Identifier: Apache-2.0
import { chmodSync, mkdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { makeRuntimeDir } from '../../../src/control/runtime_dir.ts';
import { temporaryFolder } from '../../support/temporary_folder.ts';

test('is made for its owner alone, and taken as it is found', () => {
  const folder = path.join(temporaryFolder(), 'a', 'b');
  makeRuntimeDir(folder);
  expect(statSync(folder).mode & 0o777).toBe(0o700);
  chmodSync(folder, 0o755);
  makeRuntimeDir(folder);
});

test.each([0o777, 0o770, 0o722])('mode %o lets others in: refused', (mode) => {
  const folder = path.join(temporaryFolder(), 'open');
  mkdirSync(folder);
  chmodSync(folder, mode);
  expect(() => makeRuntimeDir(folder)).toThrow(/others may write into .*open.*chmod go-w/);
});

test("somebody else's is refused", () => {
  const folder = temporaryFolder();
  const { uid } = statSync(folder);
  expect(() => makeRuntimeDir(folder, uid + 1)).toThrow(/belongs to user .*chown/);
});

test.each([
  ['/proc/foo/bar', /cannot be made: its file system takes no folders/],
  ['/etc/passwd', /passwd is no directory/],
  ['/etc/passwd/x', /cannot be made: what is above it is no directory/],
])('%s cannot be one: said at once', (folder, says) => {
  expect(() => makeRuntimeDir(folder)).toThrow(says);
});
