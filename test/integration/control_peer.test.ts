// SPDX-License-Identifier: Apache-2.0
// Who is let in at the control socket, tried with real users: it takes root to become another.
import { execFile } from 'node:child_process';
import { chmodSync, rmSync } from 'node:fs';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ControlClient } from '../../src/control/client.ts';
import { isWelcome } from '../../src/control/peer.ts';
import { controlSocketPath } from '../../src/control/protocol.ts';
import { type ControlServer, type Handlers, serveControl } from '../../src/control/server.ts';
import { createLogger } from '../../src/log.ts';
import { temporaryFolder } from '../support/temporary_folder.ts';

const NOBODY = 65534;
const ATTEMPTS = 50;
const isRoot = process.getuid?.() === 0;
const needsRoot = 'only root can become another user';

// Nothing but this is ever asked here.
const handlers = { list: async () => ({ vbds: [] }) } as unknown as Handlers;
// Not ours: another user may be unable to read this checkout.
const CLIENT = `
  const { connect } = require('node:net');
  let left = Number(process.argv[2]);
  const attempt = () => {
    const socket = connect(process.argv[1]);
    socket.write('{"protocol":1,"id":1,"method":"list"}\\n');
    socket.on('data', (data) => {
      process.stdout.write(data);
      socket.destroy();
    });
    socket.on('error', (error) => console.log(error.code));
    socket.on('close', () => --left > 0 && attempt());
  };
  attempt();`;

let folder: string;
let socketPath: string;
let server: ControlServer;
let logged: { msg: string; uid?: number }[];

beforeEach(async () => {
  folder = temporaryFolder();
  socketPath = controlSocketPath(folder);
  logged = [];
  const destination = { write: (line: string) => void logged.push(JSON.parse(line)) };
  server = await serveControl(socketPath, handlers, createLogger({ level: 'info', destination }));
  // A mode that went wrong: the kernel lets everybody connect.
  chmodSync(folder, 0o755);
  chmodSync(socketPath, 0o666);
});

afterEach(async () => {
  await server.close();
  rmSync(folder, { recursive: true });
});

/** What the daemon says to a user who asks so many times, one connection each. */
async function answersTo(uid: number, times: number): Promise<unknown[]> {
  const user = [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', '--'];
  const command = [process.execPath, '-e', CLIENT, socketPath, String(times)];
  const { stdout } = await promisify(execFile)('setpriv', [...user, ...command]);
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
}

describe('the control socket', () => {
  it('answers the user the daemon runs as', async () => {
    const client = await ControlClient.connect(socketPath);
    expect(await client.call('list', {})).toEqual({ vbds: [] });
    client.close();
  });

  it('turns others away, says why, and logs not all of it', async ({ skip }) => {
    if (!isRoot) skip(needsRoot);
    const answers = await answersTo(NOBODY, ATTEMPTS);
    const message = `user ${NOBODY} may not control the daemon: root may, and its own user`;
    const refused = { protocol: 1, id: null, error: { code: 'EACCES', message } };
    expect(answers).toEqual(Array.from({ length: ATTEMPTS }, () => refused));
    const refusals = logged.filter(({ msg }) => msg === 'control connection refused');
    expect(refusals[0]).toMatchObject({ uid: NOBODY });
    expect(refusals.length).toBeGreaterThan(0);
    expect(refusals.length).toBeLessThan(ATTEMPTS);
  });

  it('goes on answering root after that', async ({ skip }) => {
    if (!isRoot) skip(needsRoot);
    await answersTo(NOBODY, 3);
    expect(await answersTo(0, 1)).toEqual([{ protocol: 1, id: 1, result: { vbds: [] } }]);
  });
});

describe('isWelcome', () => {
  it.each([
    [0, 1000, true],
    [1000, 1000, true],
    [1001, 1000, false],
    [1001, 0, false],
  ])('user %i at the daemon of user %i: %s', (uid, own, welcome) => {
    expect(isWelcome({ pid: 1, uid }, own)).toBe(welcome);
  });
});
