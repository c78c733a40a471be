// SPDX-License-Identifier: Apache-2.0
import { parseRate } from '../target/rate.ts';
import { UsageError } from './exit_code.ts';

/** What --rate or its like says; see parseRate(). Throws UsageError. */
export function rateOf(text: string): number {
  try {
    return parseRate(text);
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

/** As a part of a request; missing: as it is. */
export function rateOption(text: string | undefined): { rate?: number } {
  return text === undefined ? {} : { rate: rateOf(text) };
}
