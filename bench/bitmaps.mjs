// SPDX-License-Identifier: Apache-2.0
// What it costs to mark writes in dirty bitmaps, in instructions of the reactor, which repeat:
//   node src/setup/bootstrap.mjs --bench && node bench/bitmaps.mjs
import { countWith } from './loopback/instructions.mjs';
import { buildBench } from './loopback/measure.mjs';
import { digits } from './report/figures.mjs';

const TARGET = { kind: /** @type {const} */ ('null'), path: String(256 << 20), close: () => {} };
const BITMAPS = [0, 1, 4];

await buildBench();
console.log('4 KiB random, null target, persistent grants, 64 KiB a bit: instructions per I/O\n');
for (const operation of ['write', 'read']) {
  for (const depth of [32, 1]) {
    const [without = 0, ...others] = BITMAPS.map(
      (bitmaps) => countWith({ operation, depth, bitmaps }, TARGET).instructions,
    );
    const parts = others.map((count, index) => {
      const percent = ((count / without - 1) * 100).toFixed(1);
      return `${BITMAPS[index + 1]} bitmaps ${digits(count)} (${percent} %)`;
    });
    console.log(`${operation}s, QD ${depth}: none ${digits(without)}, ${parts.join(', ')}`);
  }
}
