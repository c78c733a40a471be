// SPDX-License-Identifier: Apache-2.0
// Disks whose bytes are with an NBD server: nbdkit, QEMU's and our own; and what becomes of them
// when one end or the other is killed.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DISK_BYTES, during, expectFilled, fill } from '../support/disk_load.ts';
import { expectWriteAndVerify, MIB, sparseFile, workload } from '../support/loopback_machine.ts';
import { type RestartGuest, RestartMachine } from '../support/restart_machine.ts';

let machine: RestartMachine;
const servers: ChildProcess[] = [];
beforeEach(async () => {
  machine = await RestartMachine.start();
});
afterEach(async () => {
  await machine.close();
  for (const server of servers.splice(0)) server.kill('SIGKILL');
});

/** Resolves when somebody listens there. */
async function untilListening(socket: string): Promise<void> {
  await expect
    .poll(
      async () => {
        if (!existsSync(socket)) return false;
        const client = connect(socket);
        const isThere = await once(client, 'connect').then(
          () => true,
          () => false,
        );
        client.destroy();
        return isThere;
      },
      { timeout: 10_000 },
    )
    .toBe(true);
}

class Server {
  readonly socket: string;
  readonly #command: readonly string[];
  #child: ChildProcess | undefined;

  constructor(name: string, command: (socket: string) => string[]) {
    this.socket = machine.file(`${name}.sock`);
    this.#command = command(this.socket);
  }

  async start(): Promise<this> {
    const [program = '', ...args] = this.#command;
    this.#child = spawn(program, args, { stdio: 'ignore' });
    servers.push(this.#child);
    this.#child.once('exit', (_code, signal) => this.#onExit(signal));
    await untilListening(this.socket);
    return this;
  }

  /** A client that vanishes may take nbdkit 1.32 along (raw_send_socket: `sock >= 0' failed). */
  #onExit(signal: NodeJS.Signals | null): void {
    if (signal !== 'SIGABRT') return;
    rmSync(this.socket, { force: true });
    void this.start().catch(() => {});
  }

  async kill(): Promise<void> {
    const ended = once(this.#child as ChildProcess, 'exit');
    this.#child?.kill('SIGKILL');
    await ended;
    rmSync(this.socket, { force: true });
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }
}

function nbdkit(...more: string[]): Promise<Server> {
  const image = sparseFile(machine.file('nbdkit.img'), DISK_BYTES);
  return new Server('nbdkit', (socket) => [
    'nbdkit',
    '-f',
    '-U',
    socket,
    'file',
    image,
    ...more,
  ]).start();
}

function qemu(): Promise<Server> {
  const image = sparseFile(machine.file('qemu.img'), DISK_BYTES);
  return new Server('qemu', (socket) => [
    'qemu-storage-daemon',
    '--blockdev',
    `file,node-name=disk,filename=${image}`,
    '--nbd-server',
    `addr.type=unix,addr.path=${socket}`,
    '--export',
    'nbd,id=disk,node-name=disk,name=disk,writable=on',
  ]).start();
}

async function plugged(params: string): Promise<RestartGuest> {
  const guest = await machine.plug(DISK_BYTES, params);
  await guest.frontend.connect();
  return guest;
}

async function restart(server: Server): Promise<void> {
  await server.kill();
  await server.start();
}

async function hangsIn(guest: RestartGuest): Promise<string[]> {
  const { waits = [] } = (await machine.show(guest)) as { waits?: { call: string }[] };
  return waits.map(({ call }) => call);
}

describe('a disk of an NBD server', () => {
  it('is served by nbdkit, with several queues and every size of request', async () => {
    const server = await nbdkit();
    const guest = await plugged(`nbd:unix:${server.socket}`);
    for (const blockBytes of [512, 4096, 65536, MIB]) {
      await expectWriteAndVerify(guest.frontend, { blockBytes, length: blockBytes * 64 });
    }
    expect(await guest.frontend.run(workload('flush', { bytes: 4096 * 16 }))).toMatchObject({
      errors: 0,
    });
    expect(await guest.frontend.run(workload('discard'))).toMatchObject({ errors: 0 });
    const { target, agreement } = (await machine.show(guest)) as {
      target: { kind: string; capabilities: { warnings: string[] } };
      agreement: { queues: unknown[] };
    };
    expect(target).toMatchObject({ kind: 'nbd', path: server.socket });
    expect(target.capabilities.warnings).toEqual([]);
    expect(agreement.queues.length).toBeGreaterThan(1);
  });

  it("is served by QEMU, by an export's name", async () => {
    const server = await qemu();
    const guest = await plugged(`nbd+unix:///disk?socket=${server.socket}`);
    await expectWriteAndVerify(guest.frontend, { blockBytes: 4096, depth: 64 });
    await expectWriteAndVerify(guest.frontend, { blockBytes: MIB, length: 32 * MIB });
  });

  it('is served by ourselves', async () => {
    const image = sparseFile(machine.file('own.img'), DISK_BYTES);
    const { stdout } = await machine.daemon.cli('export', 'add', image, '--name', 'own');
    const socket = new URL(stdout.trim()).searchParams.get('socket') ?? '';
    const guest = await plugged(`nbd:unix:${socket}:exportname=own`);
    await expectWriteAndVerify(guest.frontend, { blockBytes: 4096, depth: 64 });
    await expectWriteAndVerify(guest.frontend, { blockBytes: MIB, length: 32 * MIB });
  });

  it('has one queue where the server has no place for more', async () => {
    const server = await nbdkit('--filter=multi-conn', 'multi-conn-mode=disable');
    const guest = await plugged(`nbd:unix:${server.socket}`);
    await expectWriteAndVerify(guest.frontend, { blockBytes: 4096, depth: 64 });
    const { agreement } = (await machine.show(guest)) as { agreement: { queues: unknown[] } };
    expect(agreement.queues).toHaveLength(1);
  });
});

describe('killed under load', () => {
  it.each([
    ['nbdkit', nbdkit, ''],
    ['QEMU', qemu, ':exportname=disk'],
  ])(
    '%s: nothing is lost, and no request fails',
    async (_, start, name) => {
      const server = await start();
      // On a busy machine a server may take longer to start than requests wait for otherwise.
      const guest = await plugged(`on-error=stop:nbd:unix:${server.socket}${name}`);
      for (let seed = 1; seed <= 3; seed++) {
        const written = guest.frontend.run(fill(seed));
        await during(written, () => restart(server));
        expect(await written).toMatchObject({ errors: 0, bytes: DISK_BYTES });
        await expectFilled(guest, seed);
      }
    },
    60_000,
  );

  it('the daemon: nothing is lost, and no request fails', async () => {
    const server = await nbdkit();
    const guest = await plugged(`nbd:unix:${server.socket}`);
    for (let seed = 1; seed <= 3; seed++) {
      const written = guest.frontend.run(fill(seed));
      await during(written, () => machine.killAndStartDaemon());
      expect(await written).toMatchObject({ errors: 0, bytes: DISK_BYTES });
      await expectFilled(guest, seed);
    }
  }, 60_000);

  it('both: nothing is lost, and no request fails', async () => {
    const server = await nbdkit();
    const guest = await plugged(`on-error=stop:nbd:unix:${server.socket}`);
    const written = guest.frontend.run(fill(1));
    await during(written, () => Promise.all([restart(server), machine.killAndStartDaemon()]));
    expect(await written).toMatchObject({ errors: 0, bytes: DISK_BYTES });
    await expectFilled(guest, 1);
  }, 60_000);
});

describe('a server that is gone', () => {
  it('fails requests with on-error=report, and serves again when it is back', async () => {
    const server = await nbdkit();
    const guest = await plugged(`on-error=report:nbd:unix:${server.socket}`);
    await expectWriteAndVerify(guest.frontend);
    await server.kill();
    const lost = await guest.frontend.run(workload('write', { bytes: 65536 }));
    expect(lost).toMatchObject({ errors: 1 });
    await server.start();
    await expect
      .poll(() => guest.frontend.run(workload('write', { bytes: 65536 })), { timeout: 10_000 })
      .toMatchObject({ errors: 0 });
    await expectWriteAndVerify(guest.frontend);
  }, 60_000);

  it('is waited for with on-error=stop', async () => {
    const server = await nbdkit();
    const guest = await plugged(`on-error=stop:nbd:unix:${server.socket}`);
    await expectWriteAndVerify(guest.frontend);
    await server.kill();
    const written = guest.frontend.run(workload('write', { seed: 8 }));
    await expect
      .poll(async () => (await machine.show(guest))['failing'], { timeout: 10_000 })
      .toMatchObject({ error: 'EIO' });
    await server.start();
    expect(await written).toMatchObject({ errors: 0 });
    expect(await guest.frontend.run(workload('verify', { seed: 8 }))).toMatchObject({
      errors: 0,
      mismatches: 0,
    });
  }, 60_000);

  it('takes with it what was answered and not flushed, and it is told', async () => {
    const server = await nbdkit();
    const guest = await plugged(`nbd:unix:${server.socket}`);
    const warnings = async () => {
      const { target } = (await machine.show(guest)) as {
        target: { capabilities: { warnings: string[] } };
      };
      return target.capabilities.warnings;
    };
    await guest.frontend.run(workload('write'));
    await guest.frontend.run(workload('flush', { bytes: 65536 }));
    await restart(server);
    await guest.frontend.run(workload('read'));
    expect(await warnings()).toEqual([]);
    await guest.frontend.run(workload('write'));
    await restart(server);
    await guest.frontend.run(workload('read'));
    await expect.poll(warnings).toEqual([expect.stringMatching(/started anew while writes/)]);
    const { stderr } = await machine.stopDaemon('SIGTERM');
    expect(stderr).toMatch(/started anew while writes had been answered and not flushed/);
  }, 60_000);
});

describe('a server that hangs', () => {
  it('holds up its own disk, and is named', async () => {
    const server = await nbdkit();
    const guest = await plugged(`nbd:unix:${server.socket}`);
    const other = await machine.plug(DISK_BYTES);
    await other.frontend.connect();
    await expectWriteAndVerify(guest.frontend);
    server.signal('SIGSTOP');
    const written = guest.frontend.run(workload('write', { seed: 8 }));
    await expect.poll(() => hangsIn(guest), { timeout: 10_000 }).toEqual(['NBD request']);
    await expectWriteAndVerify(other.frontend);
    server.signal('SIGCONT');
    expect(await written).toMatchObject({ errors: 0 });
    expect(await hangsIn(guest)).toEqual([]);
  }, 60_000);

  // What the dead daemon asked for may still be carried out.
  it('keeps a take-over from writing until it is through with the daemon before', {
    timeout: 60_000,
  }, async () => {
    const server = await nbdkit();
    const guest = await plugged(`nbd:unix:${server.socket}`);
    await expectWriteAndVerify(guest.frontend);
    server.signal('SIGSTOP');
    const written = guest.frontend.run(workload('write', { seed: 8 }));
    await expect.poll(() => hangsIn(guest), { timeout: 10_000 }).toEqual(['NBD request']);
    await machine.killAndStartDaemon();
    server.signal('SIGCONT');
    expect(await written).toMatchObject({ errors: 0 });
    expect(await guest.frontend.run(workload('verify', { seed: 8 }))).toMatchObject({
      errors: 0,
      mismatches: 0,
    });
  });
});
