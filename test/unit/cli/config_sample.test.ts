// SPDX-License-Identifier: Apache-2.0
import { expect, it } from 'vitest';
import { parseConfig } from '../../../src/config.ts';
import sample from '../../../src/host/config.sample.json' with { type: 'json' };

it('config.sample.json loads, has every key, and changes no default but the reactors', () => {
  const byDefault = parseConfig({});
  expect(Object.keys(sample).sort()).toEqual(Object.keys(byDefault).sort());
  expect(parseConfig(sample)).toEqual({ ...byDefault, reactors: sample.reactors });
});
