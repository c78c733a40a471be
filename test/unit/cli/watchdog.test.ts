// SPDX-License-Identifier: Apache-2.0
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { startWatchdog } from '../../../src/cli/watchdog.ts';

describe('startWatchdog', () => {
  it('tells systemd several times in the time it allows', async () => {
    const told: string[] = [];
    const notify = (state: string) => told.push(state) > 0;
    const timer = startWatchdog(notify, { WATCHDOG_USEC: '40000', WATCHDOG_PID: `${process.pid}` });
    await sleep(80);
    clearInterval(timer);
    expect(told.length).toBeGreaterThanOrEqual(2);
    expect(new Set(told)).toEqual(new Set(['WATCHDOG=1']));
  });

  it.each([
    ['systemd does not ask', {}],
    ['another process is asked', { WATCHDOG_USEC: '40000', WATCHDOG_PID: '1' }],
    ['what it asks makes no sense', { WATCHDOG_USEC: 'soon' }],
  ])('does nothing where %s', (_why, env) => {
    expect(startWatchdog(() => true, env)).toBeUndefined();
  });
});
