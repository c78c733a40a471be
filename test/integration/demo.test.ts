// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { ringdisk, start } from '../support/serve_process.ts';

/** Both folders of a demo that said where its image is. */
function expectRemoved(image: string): void {
  const folder = path.dirname(image);
  expect(path.basename(folder)).toMatch(/^ringdisk-demo-\w+$/);
  expect(existsSync(folder)).toBe(false);
  expect(existsSync(path.join('/dev/shm', path.basename(folder)))).toBe(false);
}

describe('ringdisk demo', () => {
  it('writes, verifies and discards, and leaves nothing behind', async () => {
    const { status, stdout, stderr } = await ringdisk('demo', '--json');
    expect(stderr).toBe('');
    expect(status).toBe(0);
    const { result } = JSON.parse(stdout);
    expect(result.negotiated).toMatchObject({ queues: 4, ringPageOrder: 4, indirectSegments: 256 });
    expect(result.allocatedBefore - result.allocatedAfter).toBeGreaterThan(200 * 1024 * 1024);
    for (const phase of result.phases) {
      expect(phase.result, phase.title).toMatchObject({ errors: 0, mismatches: 0 });
      expect(phase.result.requests, phase.title).toBeGreaterThan(0);
    }
    expectRemoved(result.image);
  }, 60_000);

  it('ends cleanly on Ctrl-C', async () => {
    const { child, ended } = start(['demo']);
    await sleep(2000);
    child.kill('SIGINT');
    const { status, stdout } = await ended;
    expect(stdout).toContain('Interrupted; everything is removed.');
    expect(status).toBe(130);
    expectRemoved(/connected: (\S+),/.exec(stdout)?.[1] ?? '');
  }, 60_000);
});
