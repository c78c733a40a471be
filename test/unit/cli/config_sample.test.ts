// SPDX-License-Identifier: Apache-2.0
import { expect, it } from 'vitest';
import { defaultPollBudgetUs, parseConfig } from '../../../src/config.ts';
import sample from '../../../src/host/config.sample.json' with { type: 'json' };

it('config.sample.json loads, has every key, and changes only what the machine decides', () => {
  const byDefault = parseConfig({});
  expect(Object.keys(sample).sort()).toEqual(Object.keys(byDefault).sort());
  const { reactors, pollBudgetUs } = sample;
  expect(pollBudgetUs).toBe(defaultPollBudgetUs(reactors + 1));
  expect(parseConfig(sample)).toEqual({ ...byDefault, reactors, pollBudgetUs });
});
