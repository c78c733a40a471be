// SPDX-License-Identifier: Apache-2.0

/** For an option that may be given several times: all of its values, in order. */
export function collect(value: string, before: string[] = []): string[] {
  return [...before, value];
}
