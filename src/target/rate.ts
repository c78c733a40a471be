// SPDX-License-Identifier: Apache-2.0
import { showValue, TargetSpecError } from '../errors.ts';
import { parseSize } from './size.ts';

const RATE_MIN = 1024;

/** Of a job, bytes a second. Throws TargetSpecError. 0: "off", as fast as it goes. */
export function parseRate(text: string): number {
  if (text === 'off' || text === '0') return 0;
  const bytes = parseSize(text) ?? Number.NaN;
  if (bytes >= RATE_MIN) return bytes;
  throw new TargetSpecError(
    `The rate ${showValue(text)} is not a number of bytes a second of at least 1K, such as 20M, ` +
      'or off.',
  );
}
