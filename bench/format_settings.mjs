// SPDX-License-Identifier: Apache-2.0
// The cache settings of qcow2 that are compared, by QEMU's names of the options. Read in dom0, too.

/** @typedef {{ title: string, options: string }} Setting */

/** As by QEMU itself, which keeps tables back until a flush. @type {Setting[]} */
export const SETTINGS = [
  { title: '3 MiB', options: 'l2-cache-size=3M:' },
  { title: '6.25 MiB', options: 'l2-cache-size=6400K:' },
  { title: 'entries of 8 KiB', options: 'l2-cache-entry-size=8K:' },
  {
    title: 'entries of 64 KiB, page cache, flush',
    options: 'l2-cache-entry-size=64K:cache.direct=off:cache.no-flush=off:',
  },
  {
    title: '8 MiB / 8 KiB, page cache, flush',
    options: 'l2-cache-size=8M:l2-cache-entry-size=8K:cache.direct=off:cache.no-flush=off:',
  },
  {
    title: '8 MiB / 8 KiB, page cache, no flush',
    options: 'l2-cache-size=8M:l2-cache-entry-size=8K:cache.direct=off:cache.no-flush=on:',
  },
  {
    title: '8 MiB / 8 KiB, direct',
    options: 'l2-cache-size=8M:l2-cache-entry-size=8K:cache.direct=on:',
  },
  {
    title: '8 MiB / 16 KiB, page cache',
    options: 'l2-cache-size=8M:l2-cache-entry-size=16K:cache.direct=off:',
  },
  {
    title: '16 MiB / 8 KiB, direct',
    options: 'l2-cache-size=16M:l2-cache-entry-size=8K:cache.direct=on:',
  },
].map(({ title, options }) => ({ title, options: `cache.writeback=on:${options}` }));
