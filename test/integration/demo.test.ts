// SPDX-License-Identifier: Apache-2.0
import { readdirSync } from 'node:fs';
import os from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { ringdisk, start } from '../support/serve_process.ts';

/** The folders of demos, running ones included. */
function demoFolders(): string[] {
  return [os.tmpdir(), '/dev/shm'].flatMap((parent) =>
    readdirSync(parent).filter((name) => name.startsWith('ringdisk-demo-')),
  );
}

describe('ringdisk demo', () => {
  it('writes, verifies and discards, and leaves nothing behind', async () => {
    const before = demoFolders();
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
    expect(demoFolders()).toEqual(before);
  }, 60_000);

  it('ends cleanly on Ctrl-C', async () => {
    const before = demoFolders();
    const { child, ended } = start(['demo']);
    await sleep(2000);
    child.kill('SIGINT');
    const { status, stdout } = await ended;
    expect(stdout).toContain('Interrupted; everything is removed.');
    expect(status).toBe(130);
    expect(demoFolders()).toEqual(before);
  }, 60_000);
});
