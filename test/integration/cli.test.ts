// SPDX-License-Identifier: Apache-2.0
// The command line against a daemon in a process of its own; guests are in this one.
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { native } from '../../src/datapath/binding.ts';
import { packageRoot } from '../../src/package_root.ts';
import { loopbackMachineDir, loopbackXenstoreSocket } from '../../src/platform/loopback.ts';
import { LoopbackFrontend } from '../../src/platform/loopback_frontend.ts';
import { createVbd, detachVbd, type VbdPaths } from '../../src/platform/loopback_toolstack.ts';
import type { XenstoreClient } from '../../src/xenstore/client.ts';
import { openXenstore } from '../../src/xenstore/connection.ts';
import { expectWriteAndVerify, MIB, sparseFile, timed } from '../support/loopback_machine.ts';
import { type Ended, MAIN, ringdisk, ServeProcess, start } from '../support/serve_process.ts';
import { temporaryFolder } from '../support/temporary_folder.ts';

let server: ServeProcess;
let xenstore: XenstoreClient;

beforeEach(async () => {
  server = await ServeProcess.start();
  xenstore = await openXenstore({ path: loopbackXenstoreSocket(server.runtimeDir) });
});

afterEach(async () => {
  await xenstore.close();
  await server.stop('SIGKILL');
  server.remove();
});

interface Guest {
  paths: VbdPaths;
  frontend: LoopbackFrontend;
  image: string;
}

async function startGuest(guestXenstore = xenstore): Promise<Guest> {
  const image = sparseFile(server.file('disk.img'), 16 * MIB);
  const spec = { domid: 3, devid: 51712, vdev: 'xvda', params: `aio:${image}` };
  const paths = await createVbd(xenstore, spec);
  const machineDir = loopbackMachineDir(server.runtimeDir);
  const frontend = new LoopbackFrontend(native, machineDir, guestXenstore, paths);
  await frontend.connect();
  return { paths, frontend, image };
}

function resultOf(command: string, { stdout, status }: Ended): Record<string, unknown> {
  expect(status).toBe(0);
  const envelope = JSON.parse(stdout) as Record<string, unknown>;
  expect(envelope).toMatchObject({ command, version: 1 });
  return envelope['result'] as Record<string, unknown>;
}

describe('the command', () => {
  it('runs where V8 does not take the code that was compiled when it was built', () => {
    // Another version of Node would have other flags, too.
    const version = execFileSync(process.execPath, ['--no-opt', MAIN, '--version']);
    expect(String(version)).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

describe('a daemon without disks', () => {
  it('lists none', async () => {
    expect(resultOf('list', await server.cli('list', '--json'))).toEqual({ vbds: [] });
    expect((await server.cli('list')).stdout).toContain('No disks');
    expect((await server.cli('stats')).stdout).toContain('0 guest pages mapped, 0 ports bound');
  });

  it('knows no such disk', async () => {
    for (const command of ['show', 'resize', 'disconnect']) {
      const { status, stderr } = await server.cli(command, '3/xvda');
      expect({ command, status }).toEqual({ command, status: 1 });
      expect(stderr).toContain('3/xvda');
    }
    const { stdout, status } = await server.cli('show', '3/xvda', '--json');
    expect(status).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({
      command: 'show',
      version: 1,
      error: { code: 'VBD_UNKNOWN', exitCode: 1 },
    });
  });

  it('lets no second one in', async () => {
    const second = await server.cli('serve', '--platform', 'loopback');
    expect(second.status).toBe(1);
    expect(second.stderr).toContain('another ringdisk daemon is running');
    expect((await server.cli('list')).status).toBe(0);
  });

  it.each(['SIGTERM', 'SIGINT'] as const)('ends cleanly on %s', async (signal) => {
    const { status, stderr } = await server.stop(signal);
    expect(status).toBe(0);
    expect(stderr).toContain('"msg":"stopped"');
    expect(existsSync(server.file('control.sock'))).toBe(false);
    expect(existsSync(server.file('xenstored.sock'))).toBe(false);
  });

  it('ends at once on a second signal', async () => {
    // A guest that does not follow keeps the clean end waiting: this one cannot know.
    const deaf = await openXenstore({ path: loopbackXenstoreSocket(server.runtimeDir) });
    await startGuest(deaf);
    await deaf.close();
    server.started.child.kill('SIGTERM');
    await sleep(500);
    expect((await server.stop('SIGINT')).signal).toBe('SIGINT');
  });

  it('leaves a socket when it is killed, which the next one replaces', async () => {
    await server.stop('SIGKILL');
    expect(existsSync(server.file('control.sock'))).toBe(true);
    const { status, stderr } = await server.cli('list');
    expect(status).toBe(3);
    expect(stderr).toContain('the daemon has died');
    const next = await ServeProcess.start('--runtime-dir', server.runtimeDir);
    expect((await server.cli('list')).status).toBe(0);
    expect((await next.stop()).status).toBe(0);
    next.remove();
  });
});

describe('a daemon with a connected disk', () => {
  it('shows it', async () => {
    const { frontend } = await startGuest();
    await expectWriteAndVerify(frontend, { length: MIB });
    const table = (await server.cli('list')).stdout;
    expect(table).toMatch(/^VBD +VDEV +STATE/);
    expect(table).toMatch(/vbd3\/3\/51712 +xvda +Connected +Connected +w +16 MiB +4/);
    for (const name of ['3/xvda', '3/51712', 'vbd3/3/51712']) {
      const { vbd } = resultOf('show', await server.cli('show', name, '--json'));
      expect(vbd).toMatchObject({ state: 'Connected', counters: { writeBytes: MIB, ioErrors: 0 } });
    }
    expect((await server.cli('show', '3/xvda')).stdout).toMatch(/^indirect segments: +256$/m);
    const stats = resultOf('stats', await server.cli('stats', '--json'));
    const latency = {
      write: { count: 16, p999Us: expect.any(Number) },
      read: { count: 16 },
      flush: { count: 0 },
    };
    expect(stats).toMatchObject({ vbds: [{ name: 'vbd3/3/51712', latency }] });
    const row = /vbd3\/3\/51712 +write +16( +\S+ [µm]s){5}$/m;
    expect((await server.cli('stats')).stdout).toMatch(row);
    expect((await server.cli('show', '3/xvda')).stdout).toMatch(row);
    await frontend.disconnect();
    await frontend.close();
  });

  it('watches it, one envelope per interval', async () => {
    const { frontend } = await startGuest();
    const runtimeDir = ['--runtime-dir', server.runtimeDir];
    const watch = start(['stats', '--watch', '0.2', '--json', ...runtimeDir]);
    await frontend.run(timed('randread', 1500, { blockBytes: 4096 }));
    watch.child.kill();
    const lines = (await watch.ended).stdout.trim().split('\n');
    expect(lines.length).toBeGreaterThan(1);
    const rates = lines.map((line) => JSON.parse(line).result.perSecond[0].counters.reads);
    expect(Math.max(...rates)).toBeGreaterThan(1000);
    const medians = lines.map((line) => JSON.parse(line).result.perSecond[0].latency.read.p50Us);
    expect(Math.max(...medians)).toBeGreaterThan(0);
    await frontend.disconnect();
    await frontend.close();
  });

  it('grows it', async () => {
    const { frontend, image } = await startGuest();
    truncateSync(image, 32 * MIB);
    const grown = await server.cli('resize', '3/xvda');
    expect(grown.stdout).toBe('3/xvda grew from 16 MiB to 32 MiB.\n');
    expect(await frontend.capacity()).toBe(32 * MIB);
    const same = resultOf('resize', await server.cli('resize', '3/xvda', '--json'));
    expect(same).toEqual({ before: 32 * MIB, after: 32 * MIB });
    await frontend.disconnect();
    await frontend.close();
  });

  it('disconnects it', async () => {
    const { frontend } = await startGuest();
    const { status, stdout } = await server.cli('disconnect', '3/xvda');
    expect({ status, stdout }).toEqual({ status: 0, stdout: '3/xvda is disconnected.\n' });
    await frontend.closedByBackend();
    expect(frontend.grantsInUse()).toBe(0);
    await frontend.close();
  });

  it('follows a toolstack that takes it away', async () => {
    const { frontend, paths } = await startGuest();
    await Promise.all([detachVbd(xenstore, paths), frontend.closedByBackend()]);
    expect(resultOf('list', await server.cli('list', '--json'))).toEqual({ vbds: [] });
    await frontend.close();
  });

  it('closes it on SIGTERM', async () => {
    const { frontend } = await startGuest();
    await expectWriteAndVerify(frontend, { length: MIB });
    // Its xenstore ends with it, so this guest cannot tell how far it came.
    expect((await server.stop()).status).toBe(0);
    expect(frontend.grantsInUse()).toBe(0);
    await frontend.close();
  });
});

describe('usage', () => {
  it.each([
    [['frobnicate'], 2, 'unknown command'],
    [['show'], 2, 'missing required argument'],
    [['stats', '--watch', '0'], 2, '--watch takes seconds'],
    [['flamegraph', '--seconds', '0'], 2, '--seconds takes'],
    [['flamegraph', '--output', 'picture.png'], 2, '--output takes'],
    [['serve', '--platform', 'hyperv'], 2, 'Allowed choices'],
    [['serve', '--config', '/nowhere.json'], 78, '/nowhere.json cannot be read'],
    [['serve', '--backend', 'a b'], 78, 'a backend kind'],
    [['list', '--runtime-dir', '/nowhere'], 3, 'Start the daemon'],
  ])('ringdisk %j ends with %i', async (args, status, message) => {
    const ended = await ringdisk(...args);
    expect(ended.stderr).toContain(message);
    expect(ended.status).toBe(status);
  });

  it.each([
    [['list', '--colour'], /unknown option '--colour'/],
    [['show'], /missing required argument/],
    [['frobnicate'], /unknown command 'frobnicate'/],
  ])('tells programs what is wrong with %j', async (args, message) => {
    const { status, stdout, stderr } = await ringdisk(...args, '--json');
    expect({ status, stderr }).toEqual({ status: 2, stderr: '' });
    const { command, error } = JSON.parse(stdout);
    expect(command).toBe(args[0]);
    expect(error).toEqual({ code: 'USAGE', message: expect.stringMatching(message), exitCode: 2 });
  });

  it('says how long the name of a disk may be', async () => {
    const { status, stderr } = await server.cli('show', 'x'.repeat(80));
    expect(status).toBe(1);
    expect(stderr).toMatch(/at most 64 characters/);
  });

  it('has a code for programs in every error', async () => {
    const { stdout, status } = await ringdisk('list', '--runtime-dir', '/nowhere', '--json');
    expect(status).toBe(3);
    expect(JSON.parse(stdout)).toMatchObject({
      command: 'list',
      error: { code: 'DAEMON_UNREACHABLE', exitCode: 3 },
    });
  });

  it('is told by every command, with an example', async () => {
    const commands = [
      'serve',
      'list',
      'show',
      'stats',
      'flamegraph',
      'resize',
      'disconnect',
      'doctor',
      'demo',
    ];
    const helps = await Promise.all(
      [[], ...commands.map((one) => [one])].map((args) => ringdisk(...args, '--help')),
    );
    for (const { status, stdout } of helps) {
      expect(status).toBe(0);
      expect(stdout).toMatch(/^Example:\n {2}\S/m);
    }
  });

  it('names the key of a bad configuration', async () => {
    const file = server.file('config.json');
    writeFileSync(file, '{"reactors": 0, "colour": "red"}');
    const { status, stderr } = await ringdisk('serve', '--config', file);
    expect(status).toBe(78);
    expect(stderr).toContain('"reactors" must be an integer from 1 to 64');
    expect(stderr).toContain('"colour" is not a known key');
  });

  it('lets systemd wait before it tries again, unless that is in vain', async () => {
    const env = { NOTIFY_SOCKET: server.file('notify') };
    const args = ['serve', '--platform', 'loopback', '--runtime-dir'];
    const started = performance.now();
    expect((await start([...args, '/etc/passwd'], env).ended).status).toBe(1);
    expect(performance.now() - started).toBeGreaterThan(1000);
    expect((await start([...args, 'relative'], env).ended).status).toBe(78);
  });
});

describe('doctor', () => {
  it('finds nothing missing for loopback on the machine that runs these tests', async () => {
    const ended = await server.cli('doctor', '--platform', 'loopback', '--json');
    const { verdicts } = resultOf('doctor', ended) as { verdicts: { status: string }[] };
    expect(verdicts.filter((verdict) => verdict.status === 'fail')).toEqual([]);
    expect(verdicts).toContainEqual(expect.objectContaining({ check: 'daemon', status: 'ok' }));
  });

  it('reports an addon that does not load, as a finding', async () => {
    const broken = start(['doctor', '--json'], { RINGDISK_PREBUILD: '/nowhere' });
    const { stdout, status } = await broken.ended;
    expect(status).toBe(1);
    const { verdicts } = JSON.parse(stdout).result;
    expect(verdicts).toContainEqual(expect.objectContaining({ check: 'addon', status: 'fail' }));
  });

  it('reports a worker that is missing, or cannot be run, as a finding', async () => {
    const folder = temporaryFolder();
    const built = path.join(folder, 'build/Release');
    mkdirSync(built, { recursive: true });
    copyFileSync(
      path.join(packageRoot, 'build/Release/ringdisk.node'),
      path.join(built, 'ringdisk.node'),
    );
    const worker = async () => {
      const asked = start(['doctor', '--json'], { RINGDISK_PREBUILD: folder });
      const { verdicts } = JSON.parse((await asked.ended).stdout).result;
      return verdicts.find(({ check }: { check: string }) => check === 'worker');
    };
    expect(await worker()).toMatchObject({
      status: 'fail',
      found: expect.stringMatching(/ringdisk-worker: ENOENT$/),
    });
    writeFileSync(path.join(built, 'ringdisk-worker'), '');
    expect(await worker()).toMatchObject({
      status: 'fail',
      found: expect.stringMatching(/ringdisk-worker: EACCES$/),
    });
    rmSync(folder, { recursive: true });
  });

  it('says what Xen lacks here, and what to do', async () => {
    if (existsSync('/dev/xen/gntdev')) return;
    const { status, stdout } = await server.cli('doctor');
    expect(status).toBe(1);
    expect(stdout).toMatch(/fail: \/dev\/xen\/gntdev\n +breaks: .+\n +do: +modprobe/);
  });
});
