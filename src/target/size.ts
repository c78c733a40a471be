// SPDX-License-Identifier: Apache-2.0

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  K: 1024,
  M: 1024 ** 2,
  G: 1024 ** 3,
  T: 1024 ** 4,
};

/** "64G" → bytes; undefined: not a size, or more than a number holds. */
export function parseSize(text: string): number | undefined {
  const match = /^([0-9]{1,16})([KMGT]?)$/i.exec(text);
  const bytes = Number(match?.[1]) * (UNITS[match?.[2]?.toUpperCase() ?? ''] ?? 1);
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}
