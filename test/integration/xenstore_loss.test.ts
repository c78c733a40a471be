// SPDX-License-Identifier: Apache-2.0
// xenstored dies and comes back under a daemon that serves a guest.
import { afterEach, beforeEach, expect, it } from 'vitest';
import { expectWriteAndVerify, MIB } from '../support/loopback_machine.ts';
import { RestartMachine } from '../support/restart_machine.ts';

let machine: RestartMachine;
beforeEach(async () => {
  machine = await RestartMachine.start();
});
afterEach(() => machine.close());

async function list(): Promise<string> {
  return (await machine.daemon.cli('list')).stdout;
}

it('is said in the log and by list while the disk is served on', async () => {
  const { frontend } = await machine.plug(16 * MIB);
  await frontend.connect();
  await machine.loseXenstore();
  await expect
    .poll(list, { timeout: 10_000 })
    .toMatch(/^xenstored is lost since .*: what a toolstack or a guest did/m);
  const lost = { check: 'daemon', status: 'fail', found: expect.stringContaining('no xenstored') };
  expect(JSON.parse((await machine.daemon.cli('doctor', '--json')).stdout)).toMatchObject({
    result: { verdicts: expect.arrayContaining([expect.objectContaining(lost)]) },
  });
  await expectWriteAndVerify(frontend, { length: MIB });
  await machine.bringBackXenstore();
  await expect.poll(list, { timeout: 10_000 }).not.toContain('lost');
  const { stderr } = await machine.stopDaemon('SIGTERM');
  expect(stderr).toMatch(/"level":"error".*xenstored is lost/);
  expect(stderr).toContain('xenstored is back');
});
