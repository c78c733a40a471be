// SPDX-License-Identifier: Apache-2.0
// One guest's request crashes every daemon that takes or replays it. The addon is the native tests'
// (`npm test` builds it), in which such a bug can be planted.
import { existsSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { MIB, timed, workload } from '../support/loopback_machine.ts';
import { type RestartGuest, RestartMachine } from '../support/restart_machine.ts';

const ADDON = fileURLToPath(new URL('../../out/native', import.meta.url));
/** See poison() in native/base/kill_point.h. */
const POISONED = { blockBytes: 4096, offset: 8 * 666 * 512, length: 4096 };
const DEATHS_MAX = 3;

let machine: RestartMachine;
beforeEach(async () => {
  vi.stubEnv('RINGDISK_PREBUILD', ADDON);
  vi.stubEnv('RINGDISK_PLANT', 'poison');
  machine = await RestartMachine.start();
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await machine.close();
});

async function state(guest: RestartGuest): Promise<unknown> {
  return (await machine.show(guest))['state'];
}

const isBuilt = existsSync(`${ADDON}/build/Release/ringdisk.node`);
describe.skipIf(!isBuilt)('a request that crashes the daemon (npm test builds the addon)', () => {
  it('takes its own disk down, and no other; an upgrade tries once more', async () => {
    const culprit = await machine.plug(64 * MIB);
    const others = [await machine.plug(MIB), await machine.plug(MIB), await machine.plug(MIB)];
    for (const { frontend } of [culprit, ...others]) await frontend.connect();
    const loads = others.map(({ frontend }) =>
      frontend.run(timed('randwrite', 6000, { blockBytes: 4096, length: MIB })),
    );
    const poisoned = culprit.frontend.run(workload('read', { ...POISONED, depth: 1 }));
    expect((await machine.died()).signal).toBe('SIGABRT');
    expect(await machine.startUntilOneLives(8000, 10)).toBe(DEATHS_MAX);
    expect(await state(culprit)).toBe('Left');
    expect((await machine.show(culprit))['error']).toMatch(/crashed 3 times in a row/);
    for (const guest of others) expect(await state(guest)).toBe('Connected');
    for (const load of loads) expect(await load).toMatchObject({ errors: 0 });
    expect(readdirSync(machine.file('vbds')).filter((name) => name.endsWith('.deaths'))).toEqual([
      'vbd3-1-51712.deaths',
    ]);

    // The new version does not have the bug.
    vi.stubEnv('RINGDISK_PLANT', '');
    await machine.upgradeDaemon();
    expect(await poisoned).toMatchObject({ requests: 1, errors: 0 });
    expect(await state(culprit)).toBe('Connected');
    for (const { frontend } of others) {
      expect(await frontend.run(workload('read', { length: MIB }))).toMatchObject({ errors: 0 });
    }
  }, 120_000);
});
