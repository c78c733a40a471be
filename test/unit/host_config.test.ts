// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { loadConfig, parseConfig } from '../../src/config.ts';

const FILE = new URL('../../src/host/config.json', import.meta.url).pathname;

it('the configuration that is shipped changes nothing', async () => {
  expect(await loadConfig(FILE)).toEqual(parseConfig({}));
});

it('it shows every key, with its default but for the reactors', () => {
  const shown = [...readFileSync(FILE, 'utf8').matchAll(/^ {2}\/\/ ("\w+": .*?),?$/gm)];
  const keys = JSON.parse(`{${shown.map(([, pair]) => pair).join()}}`);
  const byDefault = parseConfig({});
  expect(Object.keys(keys).sort()).toEqual(Object.keys(byDefault).sort());
  expect(parseConfig(keys)).toEqual({ ...byDefault, reactors: keys.reactors });
});
