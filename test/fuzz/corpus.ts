// SPDX-License-Identifier: Apache-2.0
import { readdirSync, readFileSync } from 'node:fs';
import fc from 'fast-check';

const { RINGDISK_FUZZ_RUNS: asked } = process.env;
/** How many inputs each property gets: few in `npm test`, as many as one likes when fuzzing. */
export const fuzzRuns = Number(asked ?? 2000);

/** Every kept input of one fuzzer, as fast-check's examples. */
export function corpus(name: string): [Buffer][] {
  const folder = new URL(`corpus/${name}/`, import.meta.url);
  return readdirSync(folder).map((file) => [readFileSync(new URL(file, folder))]);
}

export const someBytes: fc.Arbitrary<Buffer> = fc
  .uint8Array({ maxLength: 6000, size: 'max' })
  .map((bytes) => Buffer.from(bytes));
