// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { expect, test } from 'vitest';
import * as errors from '../../src/errors.ts';

test('every code says what it means', () => {
  for (const meaning of Object.values(errors.ERROR_CODES)) expect(meaning).toMatch(/^[A-Z].*\.$/);
});

test('an error knows its name and code', () => {
  const error = new errors.NegotiationError('ring-ref', 'x', 'a number');
  expect(error).toBeInstanceOf(errors.RingdiskError);
  expect(error).toMatchObject({ name: 'NegotiationError', code: 'FRONTEND_NODE_INVALID' });
  expect(error.message).toBe('frontend node ring-ref is "x", not a number');
});

test('a shown value is short and harmless, whatever it was', () => {
  fc.assert(
    // Any code units, surrogates alone among them.
    fc.property(fc.uint16Array({ maxLength: 100 }), (units) => {
      const value = String.fromCharCode(...units);
      const shown = errors.showValue(value);
      expect(shown).toMatch(/^"[\x20-\x7e]*…?"$/);
      expect(shown.length).toBeLessThanOrEqual(64 * 6 + 3);
    }),
  );
  expect(errors.showValue(undefined)).toBe('missing');
});

test('bytes that are no text are shown as bytes, and told from a text that looks so', () => {
  expect(errors.showValue('/d\udce9j')).toBe('"/d\\xe9j"');
  expect(errors.showValue('/d\\udce9\\xe9j')).toBe('"/d\\\\udce9\\\\xe9j"');
});
