// SPDX-License-Identifier: Apache-2.0
import { defineConfig } from 'vitest/config';

export default defineConfig({
  root: new URL('..', import.meta.url).pathname,
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/rig/**'],
    pool: 'forks',
    // They wait more than they work.
    maxWorkers: 2,
    testTimeout: 30_000,
  },
});
