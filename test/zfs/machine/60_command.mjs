// SPDX-License-Identifier: Apache-2.0
// The manager as a process, and the commands that are its clients.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { json, ringdisk, started } from './manager_process.mjs';
import { disk } from './pool.mjs';

export const subject = 'ringdisk manage';

const SOCKET = '/run/ringdisk-manage/manage.sock';

export const tests = {
  'what README says, over a kill -9': async () => {
    const first = await started();
    await ringdisk('pool', 'create', 'tank', '--layout', 'mirror', '--wipe', disk(0), disk(1));
    const { stdout } = await ringdisk('volume', 'create', 'tank/vm1', '64M');
    assert.match(stdout, /target: +zfs:tank\/vm1/);
    await ringdisk('volume', 'snapshot', 'tank/vm1', '--name', 'monday');
    first.child.kill('SIGKILL');
    await first.ended;
    const refused = await ringdisk('volume', 'list').catch((error) => error);
    assert.equal(refused.code, 3);
    assert.match(refused.stderr, /the volume manager has died\. Start it again/);
    const second = await started();
    await ringdisk('volume', 'clone', 'tank/vm1@monday', 'tank/vm2');
    const { volumes } = await json('volume', 'list', 'tank');
    assert.deepEqual(volumes.map(({ kind, name }) => [kind, name]).sort(), [
      ['snapshot', 'monday'],
      ['volume', 'vm1'],
      ['volume', 'vm2'],
    ]);
    assert.ok(existsSync('/dev/zvol/tank/ringdisk/vm2'));
    await ringdisk('volume', 'destroy', 'tank/vm1');
    await ringdisk('volume', 'destroy', 'tank/vm2');
    const wrong = await ringdisk('volume', 'show', 'tank/vm1', '--json').catch((error) => error);
    assert.equal(JSON.parse(wrong.stdout).error.code, 'VOLUME_UNKNOWN');
    const status = await json('pool', 'status', 'tank');
    assert.equal(status.status.healthy, true);
    await ringdisk('pool', 'destroy', 'tank', '--yes');
    second.child.kill('SIGTERM');
    assert.equal(await second.ended, 0);
    assert.ok(!existsSync(SOCKET));
  },
};
