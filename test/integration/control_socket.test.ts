// SPDX-License-Identifier: Apache-2.0
// Client and server over a real socket in a temporary folder.
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ControlClient } from '../../src/control/client.ts';
import { ControlError, DaemonUnreachableError } from '../../src/control/errors.ts';
import { REQUEST_BYTES_MAX } from '../../src/control/framing.ts';
import { lockRuntimeDir } from '../../src/control/lock.ts';
import { controlSocketPath } from '../../src/control/protocol.ts';
import {
  CONNECTIONS_MAX,
  type ControlServer,
  type Handlers,
  serveControl,
} from '../../src/control/server.ts';
import { createLogger } from '../../src/log.ts';

const log = createLogger({ level: 'silent' });

/** Those of bitmaps are not called here. */
const handlers = {
  version: async () => ({
    ringdisk: '0.1.0',
    journalVersion: 1,
    recordVersion: 1,
    liburing: '2.3',
    protocol: 1,
    platform: 'loopback',
    backends: ['vbd3'],
    pid: 1,
  }),
  list: async () => ({ vbds: [] }),
  show: async ({ vbd }) => {
    throw new ControlError('ENOENT', `no VBD ${vbd}`);
  },
  stats: async () => {
    throw new Error('a bug');
  },
  resize: async () => ({ before: 1, after: 2 }),
  fill: () => new Promise(() => {}),
  limit: async ({ vbd }) => ({ vbd }),
  retry: async ({ vbd }) => {
    throw new ControlError('ENOENT', `no VBD ${vbd}`);
  },
  disconnect: () => new Promise(() => {}),
  exportAdd: async () => {
    throw new ControlError('EEXIST', 'there is one');
  },
  exportList: async () => ({ exports: [] }),
  exportRemove: async () => ({}),
  handover: async () => ({ managed: false, serve: { platform: 'xen' } }),
} as Partial<Handlers> as Handlers;

let folder: string;
let server: ControlServer;
let socketPath: string;

beforeEach(async () => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'ringdisk-test-'));
  socketPath = controlSocketPath(folder);
  server = await serveControl(socketPath, handlers, log);
});

afterEach(async () => {
  await server.close();
  rmSync(folder, { recursive: true });
});

/** Sends bytes and collects what comes back until the server closes or `lines` lines are there. */
function raw(bytes: string | Buffer, lines: number): Promise<string[]> {
  return new Promise((resolve, reject) => {
    let text = '';
    const socket = connect(socketPath, () => socket.write(bytes));
    const done = () => resolve(text.split('\n').slice(0, -1));
    socket.on('data', (chunk) => {
      text += chunk;
      if (text.split('\n').length <= lines) return;
      socket.destroy();
      done();
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNRESET' || error.code === 'EPIPE') done();
      else reject(error);
    });
    socket.on('close', done);
  });
}

describe('control socket', () => {
  it('is open to its owner alone', () => {
    expect(statSync(socketPath).mode & 0o777).toBe(0o600);
  });

  it('answers calls, also overlapping ones', async () => {
    const client = await ControlClient.connect(socketPath);
    const answers = Promise.all([
      client.call('list', {}),
      client.call('resize', { vbd: '1/xvda' }),
    ]);
    expect(await answers).toEqual([{ vbds: [] }, { before: 1, after: 2 }]);
    client.close();
  });

  it('carries the code and the message of an error', async () => {
    const client = await ControlClient.connect(socketPath);
    const failed = client.call('show', { vbd: '7/xvda' });
    await expect(failed).rejects.toMatchObject({ code: 'ENOENT', message: 'no VBD 7/xvda' });
    await expect(client.call('stats', {})).rejects.toMatchObject({ code: 'EIO' });
    client.close();
  });

  it.each([
    ['not json', 'EPROTO'],
    ['{"protocol":2,"id":1,"method":"list"}', 'EPROTO'],
    ['{"protocol":1,"id":1.5,"method":"list"}', 'EPROTO'],
    ['{"protocol":1,"id":1,"method":"toString"}', 'ENOSYS'],
    ['{"protocol":1,"id":1,"method":"show"}', 'EINVAL'],
    [`{"protocol":1,"id":1,"method":"show","params":{"vbd":"${'1'.repeat(65)}"}}`, 'EINVAL'],
  ])('refuses %s and goes on', async (line, code) => {
    const next = '{"protocol":1,"id":2,"method":"list"}';
    const [first = '', second = ''] = await raw(`${line}\n${next}\n`, 2);
    expect(JSON.parse(first)).toMatchObject({ protocol: 1, error: { code } });
    expect(JSON.parse(second)).toEqual({ protocol: 1, id: 2, result: { vbds: [] } });
  });

  it('closes on a message without end', async () => {
    expect(await raw(Buffer.alloc(REQUEST_BYTES_MAX + 1, 'x'), 1)).toEqual([]);
    const client = await ControlClient.connect(socketPath);
    const long = client.call('show', { vbd: 'x'.repeat(REQUEST_BYTES_MAX) });
    await expect(long).rejects.toMatchObject({ code: 'USAGE' });
    client.close();
  });

  it('closes on requests that nobody waits the answers of', async () => {
    const line = '{"protocol":1,"id":1,"method":"disconnect","params":{"vbd":"1/xvda"}}\n';
    expect(await raw(line.repeat(100), 1)).toEqual([]);
  });

  it('does nothing more for a client that does not read its answers', async () => {
    await server.close();
    const warnings: string[] = [];
    const warned = ({ name }: Error) => warnings.push(name);
    process.on('warning', warned);
    let served = 0;
    const platform = 'x'.repeat(1 << 20);
    const version = async () => {
      served++;
      return { ...(await handlers.version({})), platform };
    };
    server = await serveControl(socketPath, { ...handlers, version }, log);
    const socket = connect(socketPath).pause();
    for (let id = 0; id < 20; id++) socket.write(`{"protocol":1,"id":${id},"method":"version"}\n`);
    await sleep(300);
    expect(served).toBeLessThan(10);
    // Whoever reads gets all of them, and others are served meanwhile.
    const other = await ControlClient.connect(socketPath);
    expect(await other.call('list', {})).toEqual({ vbds: [] });
    other.close();
    socket.resume();
    await vi.waitUntil(() => served === 20);
    socket.destroy();
    await sleep(10);
    process.off('warning', warned);
    // Such as of listeners that each answer leaves behind.
    expect(warnings).toEqual([]);
  });

  it('says so when too many are connected', async () => {
    const clients = await Promise.all(
      Array.from({ length: CONNECTIONS_MAX }, () => ControlClient.connect(socketPath)),
    );
    await clients.at(-1)?.call('list', {});
    const late = await ControlClient.connect(socketPath);
    await expect(late.call('list', {})).rejects.toMatchObject({
      code: 'EBUSY',
      message: expect.stringMatching(/32 connections are open/),
    });
    clients.pop()?.close();
    late.close();
    const next = await vi.waitUntil(async () => {
      const client = await ControlClient.connect(socketPath);
      return client.call('list', {}).catch(() => undefined);
    });
    expect(next).toEqual({ vbds: [] });
    for (const client of clients) client.close();
  });

  it('fails the calls under way when the daemon goes', async () => {
    const client = await ControlClient.connect(socketPath);
    const call = client.call('disconnect', { vbd: '1/xvda' });
    const failed = expect(call).rejects.toBeInstanceOf(DaemonUnreachableError);
    await server.close();
    await failed;
  }, 5000);

  it('removes its socket when it closes, and takes the place of a dead one', async () => {
    await server.close();
    expect(existsSync(socketPath)).toBe(false);
    await expect(ControlClient.connect(socketPath)).rejects.toThrow(/Start the daemon/);
    writeFileSync(socketPath, '');
    await expect(ControlClient.connect(socketPath)).rejects.toBeInstanceOf(DaemonUnreachableError);
    server = await serveControl(socketPath, handlers, log);
    const client = await ControlClient.connect(socketPath);
    expect(await client.call('list', {})).toEqual({ vbds: [] });
    client.close();
  });

  it('refuses a path that no socket can have', async () => {
    const long = path.join(folder, 'x'.repeat(100));
    await expect(serveControl(long, handlers, log)).rejects.toMatchObject({ code: 'ENAMETOOLONG' });
  });
});

describe('lockRuntimeDir', () => {
  it('lets one in at a time', async () => {
    await lockRuntimeDir(folder);
    await expect(lockRuntimeDir(folder)).rejects.toThrow(/another ringdisk daemon is running/);
  });
});
