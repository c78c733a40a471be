// SPDX-License-Identifier: Apache-2.0
import { expect, test } from 'vitest';
import { defaultReactors, parseConfig } from '../../src/config.ts';
import { ConfigError } from '../../src/errors.ts';
import { startFailure } from '../../src/platform/open_engine.ts';

const failure = (code: string, message: string) => Object.assign(new Error(message), { code });

test('a setting that this machine cannot fulfil is named, and is the configuration’s fault', () => {
  const pin = failure('EINVAL', 'cannot pin a reactor to CPU 99: Invalid argument');
  const found = startFailure(pin, parseConfig({ reactors: 1, cpus: [99] }));
  expect(found).toBeInstanceOf(ConfigError);
  expect(found.message).toContain('"cpus" names CPU 99');
});

test('too little memory for the rings is that only where more were asked for than usual', () => {
  const ring = failure('ENOMEM', 'the kernel refuses an io_uring: Cannot allocate memory');
  const [many, usual] = [64, defaultReactors()].map((reactors) =>
    startFailure(ring, parseConfig({ reactors })),
  );
  expect(many).toBeInstanceOf(ConfigError);
  expect(many?.message).toContain('"reactors": 64');
  expect(usual).not.toBeInstanceOf(ConfigError);
  expect(usual).toMatchObject({ code: 'ENOMEM' });
  expect(usual?.message).toContain('LimitMEMLOCK');
});

test('all else stays as it was', () => {
  const other = failure('EACCES', 'no');
  expect(startFailure(other, parseConfig({}))).toBe(other);
});
