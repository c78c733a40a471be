// SPDX-License-Identifier: Apache-2.0
// The executables that XAPI runs: how they are called, what they leave alone, and what they say
// when the manager is not there.
import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { smapiSocketPath } from '../../src/smapi/smapi_socket.ts';
import { feed, runScript, SmapiHost } from '../support/smapi_host.ts';

let host: SmapiHost;
beforeEach(async () => {
  host = await SmapiHost.start();
});
afterEach(async () => {
  await host.end();
});

/** An interpreter as old as dom0's, where there is one. */
function oldPython(): string | undefined {
  try {
    return execFileSync('pyenv', ['prefix', '3.6.15'], { stdio: 'pipe' }).toString().trim();
  } catch {
    return undefined;
  }
}

test('the answer is all there is on standard output, and the exit status is 0', async () => {
  const ended = await host.run('Plugin.diagnostics', { dbg: 'd' });
  expect(ended).toMatchObject({ status: 0, stderr: '' });
  expect(JSON.parse(ended.stdout)).toMatch(/^ringdisk .*Daemon:\n {2}cannot be told/s);
});

test('the caller’s word for its call may have two lines', async () => {
  const { status, stdout } = await host.run('Plugin.Query', {
    dbg: 'task ref\n00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
  });
  expect(status).toBe(0);
  expect(JSON.parse(stdout).plugin).toBe('ringdisk');
});

test('as static-vdis runs it, without standard input', async () => {
  const script = host.script('Plugin.Query');
  const child = spawn(script, ['static-vdis'], { stdio: ['ignore', 'pipe', 'pipe'] });
  const { status, stdout } = await feed(child, '');
  expect(status).toBe(0);
  expect(JSON.parse(stdout).required_cluster_stack).toEqual([]);
});

test('as XAPI’s tracing runs it, inside an interpreter of its own', async () => {
  const script = host.script('Plugin.Query');
  const tracer = [
    'import os, runpy, sys',
    'kept = os.dup(1)',
    'sys.argv = sys.argv[1:]',
    'try: runpy.run_path(sys.argv[0], run_name="__main__")',
    'except SystemExit as end: os.fstat(kept); sys.exit(end.code)',
  ];
  const env = { ...process.env, OBSERVER_CONFIG_DIR: '/nowhere' };
  const child = spawn('python3', ['-c', tracer.join('\n'), script, '--json'], { env });
  const { status, stdout, stderr } = await feed(child, '{"dbg":"d"}');
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(JSON.parse(stdout).plugin).toBe('ringdisk');
});

test('with the Python of an old dom0', async ({ skip }) => {
  const prefix = oldPython();
  if (prefix === undefined) return skip('no Python 3.6 here');
  const program = [host.script('Plugin.Query'), '--json'];
  const child = spawn(`${prefix}/bin/python3.6`, ['-IS', ...program]);
  const { status, stdout } = await feed(child, '{"dbg":"d"}');
  expect(status).toBe(0);
  expect(JSON.parse(stdout).plugin).toBe('ringdisk');
});

test('what it inherits is closed while it waits, and SIGPIPE may be ignored', async () => {
  const { pid, peer, end } = await callThatWaits('exec 7<>/dev/null 8</; trap "" PIPE;');
  const open = execFileSync('ls', [`/proc/${pid}/fd`])
    .toString()
    .trim()
    .split('\n')
    .map(Number);
  expect(open).toHaveLength(4); // its three, and the socket
  peer.end('0 4\nnull');
  expect(await end).toMatchObject({ status: 0, stdout: 'null\n' });
});

/** A manager that is asked and does not answer yet. */
async function callThatWaits(before: string) {
  await host.stopManager();
  const server = createServer({ allowHalfOpen: true });
  server.listen(smapiSocketPath(host.runtimeDir));
  const asked = new Promise<import('node:net').Socket>((resolve) => {
    server.on('connection', (socket) => {
      socket.resume();
      socket.on('end', () => resolve(socket));
    });
  });
  const command = `${before} exec ${host.script('Volume.destroy')} --json`;
  const child = spawn('/bin/bash', ['-c', command]);
  const end = feed(child, '{}');
  const peer = await asked;
  server.close();
  return { pid: child.pid, peer, end };
}

describe('a manager', () => {
  test('that says it is at work is waited for', async () => {
    const { peer, end } = await callThatWaits('');
    for (let dots = 0; dots < 3; dots++) {
      peer.write('.');
      await sleep(20);
    }
    peer.end('1 2\n{}');
    expect(await end).toMatchObject({ status: 1, stdout: '{}\n' });
  });

  test('that is restarted is asked again for what may be done twice', async () => {
    const { peer, end } = await callThatWaits('');
    peer.destroy();
    await host.startManager();
    const { stdout } = await end;
    // It got there: an empty request is refused.
    expect(JSON.parse(stdout).params[1]).toBe('REQUEST_INVALID');
  });

  test('that dies over what cannot be done twice is not asked again', async () => {
    await host.stopManager();
    const listening = await listenAndDie();
    const failure = await host.failure('Volume.create', {});
    listening.close();
    expect(failure.code).toBe('SR_BACKEND_FAILURE');
    expect(failure.params[1]).toMatch(/does not answer: it ended in the middle of the call/);
    expect(failure.backtrace).toEqual({ error: failure.params[1], files: [], lines: [] });
  });

  test('that is not there, or says nothing, is given up', async () => {
    await host.stopManager();
    const hasty = hastyCopy();
    const absent = await runScript(hasty, ['--json'], '{}');
    expect(absent.status).toBe(1);
    const where = smapiSocketPath(host.runtimeDir);
    expect(JSON.parse(absent.stdout).params[1]).toContain(`cannot be reached at ${where}: `);
    const silent = createServer(() => {});
    silent.listen(where);
    const hung = await runScript(hasty, ['--json'], '{}');
    expect(JSON.parse(hung.stdout).params[1]).toMatch(/has said nothing for 1 seconds/);
    silent.close();
  });
});

async function listenAndDie(): Promise<Server> {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', () => socket.destroy());
  });
  await new Promise<void>((resolve) => {
    server.listen(smapiSocketPath(host.runtimeDir), resolve);
  });
  return server;
}

/** The same program with less patience, in a folder beside the plugin's. */
function hastyCopy(): string {
  const folder = path.join(host.folder, 'hasty');
  mkdirSync(folder);
  const program = readFileSync(host.script('ringdisk_smapi.py').replace('Data', ''), 'utf8')
    .replace(/^(CONNECT_SECONDS) = .*/m, '$1 = 1')
    .replace(/^(SILENCE_SECONDS) = .*/m, '$1 = 1');
  const file = path.join(folder, 'Volume.stat');
  writeFileSync(file, program);
  chmodSync(file, 0o755);
  execFileSync('ln', ['-s', smapiSocketPath(host.runtimeDir), path.join(folder, 'manager.sock')]);
  return file;
}

test('each method is there under its name, and nothing else that could be one', () => {
  const plugin = path.dirname(host.script('Volume.stat'));
  const names = execFileSync('ls', ['-A', plugin]).toString().trim().split('\n');
  expect(names.filter((name) => !/^(Plugin|SR|Volume)\./.test(name))).toEqual([
    'manager.sock',
    'ringdisk_smapi.py',
  ]);
  expect(names).toContain('Plugin.Query');
  expect(existsSync(host.script('Datapath.import_activate'))).toBe(true);
});
