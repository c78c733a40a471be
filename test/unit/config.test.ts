// SPDX-License-Identifier: Apache-2.0
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  autoPollBudgetUs,
  defaultReactors,
  engineOptions,
  loadConfig,
  parseConfig,
} from '../../src/config.ts';
import { ConfigError } from '../../src/errors.ts';

describe('parseConfig', () => {
  test('defaults', () => {
    expect(parseConfig({})).toEqual({
      backends: ['vbd3'],
      runtimeDir: '/run/ringdisk',
      reactors: defaultReactors(),
      cpus: [],
      pollBudgetUs: 'auto',
      bouncePoolBytes: 33554432,
      grants: 'auto',
      onError: 'report',
      persistentPagesPerVbd: 4224,
      persistentPagesMax: 65536,
      queuesMax: 8,
      ringPageOrderMax: 4,
      indirectSegmentsMax: 256,
      closeOnStop: false,
      force: false,
      logLevel: 'info',
    });
  });

  test('is frozen, and so are its lists', () => {
    const config = parseConfig({ backends: ['vbd'] });
    expect(Object.isFrozen(config)).toBe(true);
    expect(Object.isFrozen(config.backends)).toBe(true);
    expect(Object.isFrozen(config.cpus)).toBe(true);
    expect(Object.isFrozen(parseConfig({}).backends)).toBe(true);
  });

  test('an override counts more than the file, an absent one does not', () => {
    const overrides = { logLevel: 'debug', runtimeDir: undefined } as const;
    const config = parseConfig({ logLevel: 'warn', runtimeDir: '/tmp/r' }, overrides);
    expect(config).toMatchObject({ logLevel: 'debug', runtimeDir: '/tmp/r' });
  });

  test.each([
    [{ backends: [] }, '"backends" must be a list of at least one backend kind, but is [].'],
    [{ backends: 'vbd3' }, '"backends" must be a list of backend kinds, but is "vbd3".'],
    [{ backends: ['a/b'] }, '"backends.0" must be a backend kind such as "vbd3", but is "a/b".'],
    [{ backends: ['a', 'a'] }, '"backends" must be a list without repetitions, but is ["a","a"].'],
    [{ runtimeDir: 'run' }, '"runtimeDir" must be an absolute path, but is "run".'],
    [{ reactors: 0 }, '"reactors" must be an integer from 1 to 64, but is 0.'],
    [{ reactors: 1.5 }, '"reactors" must be an integer from 1 to 64, but is 1.5.'],
    [{ cpus: [-1] }, '"cpus.0" must be an integer from 0 to 8191, but is -1.'],
    [{ cpus: [1, 1] }, '"cpus" must be a list without repetitions, but is [1,1].'],
    [
      { reactors: 2, cpus: [1] },
      '"cpus" must be empty or name one CPU per reactor (2), but names 1.',
    ],
    [
      { pollBudgetUs: -1 },
      '"pollBudgetUs" must be "auto" or an integer from 0 to 100000, but is -1.',
    ],
    [
      { bouncePoolBytes: 1048577 },
      '"bouncePoolBytes" must be a multiple of 1048576, but is 1048577.',
    ],
    [{ onError: 'ignore' }, '"onError" must be one of report, stop, but is "ignore".'],
    [{ grants: 'lend' }, '"grants" must be one of auto, persistent, copy, map, but is "lend".'],
    [
      { persistentPagesPerVbd: '9' },
      '"persistentPagesPerVbd" must be an integer from 0 to 1048576, but is "9".',
    ],
    [
      { persistentPagesMax: null },
      '"persistentPagesMax" must be an integer from 0 to 1048576, but is null.',
    ],
    [{ queuesMax: 17 }, '"queuesMax" must be an integer from 1 to 16, but is 17.'],
    [{ ringPageOrderMax: 5 }, '"ringPageOrderMax" must be an integer from 0 to 4, but is 5.'],
    [
      { indirectSegmentsMax: 257 },
      '"indirectSegmentsMax" must be an integer from 0 to 256, but is 257.',
    ],
    [{ closeOnStop: 1 }, '"closeOnStop" must be true or false, but is 1.'],
    [{ logLevel: 'loud' }, /^"logLevel" must be one of trace, .*, but is "loud"\.$/],
    [{ queueMax: 4 }, /^"queueMax" is not a known key; known are backends, runtimeDir, /],
  ])('%j', (input, sentence) => {
    try {
      parseConfig(input);
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(ConfigError);
      const { problems } = error as ConfigError;
      expect(problems).toHaveLength(1);
      if (typeof sentence === 'string') expect(problems[0]).toBe(sentence);
      else expect(problems[0]).toMatch(sentence);
    }
  });

  test('tells all problems at once', () => {
    try {
      parseConfig({ reactors: 0, grants: 'x', colour: 'red' });
      expect.unreachable();
    } catch (error) {
      expect((error as ConfigError).problems).toHaveLength(3);
    }
  });

  test.each([null, [], 'x', 7])('%j is no configuration', (input) => {
    expect(() => parseConfig(input)).toThrow(/must be a JSON object/);
  });
});

test.each([
  [1, 1],
  [2, 1],
  [4, 3],
  [64, 4],
])('%i cores: %i reactors', (cores, reactors) => {
  expect(defaultReactors(cores)).toBe(reactors);
});

test('nobody looks out where there is one CPU', () => {
  expect(autoPollBudgetUs(1)).toBe(0);
  expect(autoPollBudgetUs(2)).toBe(50);
});

test('engineOptions is the native part', () => {
  expect(engineOptions(parseConfig({ pollBudgetUs: 7 })).pollBudgetUs).toBe(7);
  expect(engineOptions(parseConfig({ reactors: 2, cpus: [4, 5] }))).toEqual({
    reactors: 2,
    cpus: [4, 5],
    pollBudgetUs: autoPollBudgetUs(),
    bouncePoolBytes: 33554432,
    fillDir: '/run/ringdisk/fills',
    persistentPagesMax: 65536,
  });
});

describe('loadConfig', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'ringdisk-config-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  test('without a file: defaults and overrides', async () => {
    expect(await loadConfig(undefined, { queuesMax: 2 })).toMatchObject({ queuesMax: 2 });
  });

  test('reads JSON', async () => {
    const file = join(folder, 'good.json');
    await writeFile(file, '{"backends": ["vbd", "vbd3"], "grants": "copy"}');
    const config = await loadConfig(file, { grants: 'map' });
    expect(config).toMatchObject({ backends: ['vbd', 'vbd3'], grants: 'map' });
  });

  test('names the file that cannot be read', async () => {
    const file = join(folder, 'bad.json');
    await writeFile(file, '{');
    await expect(loadConfig(file)).rejects.toThrow(`The configuration file ${file} cannot be read`);
    await expect(loadConfig(join(folder, 'none'))).rejects.toThrow(/ENOENT/);
  });
});
