// SPDX-License-Identifier: Apache-2.0
// A picture of a daemon under load; without perf, what to do about that.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { native } from '../../src/datapath/binding.ts';
import { loopbackMachineDir, loopbackXenstoreSocket } from '../../src/platform/loopback.ts';
import { LoopbackFrontend } from '../../src/platform/loopback_frontend.ts';
import { createVbd } from '../../src/platform/loopback_toolstack.ts';
import { openXenstore } from '../../src/xenstore/connection.ts';
import { timed } from '../support/loopback_machine.ts';
import { ServeProcess, start } from '../support/serve_process.ts';

let server: ServeProcess;

beforeEach(async () => {
  server = await ServeProcess.start();
});

afterEach(async () => {
  await server.stop('SIGKILL');
  server.remove();
});

/** Whether perf is there and may record. */
function mayRecord(): boolean {
  const probe = ['record', '-q', '-o', '/dev/null', '-e', 'cpu-clock', '--', 'true'];
  return spawnSync('perf', probe, { stdio: 'ignore' }).status === 0;
}

it('draws the threads, the data path and the kernel', async (context) => {
  if (!mayRecord()) context.skip('no perf, or it may not record');
  const xenstore = await openXenstore({ path: loopbackXenstoreSocket(server.runtimeDir) });
  const spec = { domid: 3, devid: 51712, vdev: 'xvda', params: 'null:1G' };
  const paths = await createVbd(xenstore, spec);
  const machineDir = loopbackMachineDir(server.runtimeDir);
  const frontend = new LoopbackFrontend(native, machineDir, xenstore, paths);
  await frontend.connect();
  const load = frontend.run(timed('randread', 8000, { blockBytes: 4096 }));
  for (const name of ['picture.svg', 'page.html']) {
    const file = server.file(name);
    const args = ['--seconds', '1', '--vbd', '3/xvda', '--output', file, '--json'];
    const { stdout, stderr, status } = await server.cli('flamegraph', ...args);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const { result } = JSON.parse(stdout);
    expect(result.samples).toBeGreaterThan(10);
    // A quarter here: without libc's debug symbols its copying has no name.
    expect(result.unknownShare).toBeLessThan(0.25);
    const picture = readFileSync(file, 'utf8');
    for (const part of ['rd-reactor-', 'Queue::poll', 'unknown frames: ']) {
      expect(picture).toContain(part);
    }
  }
  await load;
  await frontend.disconnect();
  await frontend.close();
  await xenstore.close();
});

it('says what to install where perf is missing', async () => {
  const args = ['flamegraph', '--runtime-dir', server.runtimeDir, '--output', server.file('a.svg')];
  const { stderr, status } = await start(args, { PATH: '/nowhere' }).ended;
  expect(status).toBe(1);
  expect(stderr).toContain('perf is not installed. Install it (Debian: apt install linux-perf');
});

it('knows what it cannot draw', async () => {
  const { stderr, status } = await server.cli('flamegraph', '--vbd', '3/xvda');
  expect(status).toBe(1);
  expect(stderr).toContain('3/xvda');
});
