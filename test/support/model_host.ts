// SPDX-License-Identifier: Apache-2.0
// A host whose ZFS is the model of model_zfs.ts: `ringdisk manage` and the commands run in a mount
// namespace of their own, where `zfs` and `zpool` ask this process.
import { spawn, spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { ZfsError } from '../../src/zfs/zfs_error.ts';
import { ModelStreams } from './model_streams.ts';
import { ModelZfs } from './model_zfs.ts';
import { type Ended, follow, MAIN, type Started } from './serve_process.ts';
import { temporaryFolder } from './temporary_folder.ts';

const CLIENT = fileURLToPath(new URL('model_zfs_client.py', import.meta.url));
const READY_MS = 20_000;

/** Why no such host can be had here, if so. */
export function obstacle(): string | undefined {
  const { status } = spawnSync('unshare', ['-m', 'mount', '-t', 'tmpfs', 'none', '/mnt']);
  return status === 0 ? undefined : 'mount namespaces need root';
}

export class ModelHost {
  readonly zfs: ModelZfs;
  readonly streams: ModelStreams;
  readonly #programs = path.join(temporaryFolder(), 'programs');
  readonly #state = temporaryFolder();
  readonly #server: Server;
  #manager: Started | undefined;

  constructor(pool: string) {
    this.zfs = new ModelZfs(pool);
    this.streams = new ModelStreams(this.zfs);
    mkdirSync(this.#programs);
    for (const name of ['zfs', 'zpool', 'zvol_id', 'readlink']) {
      copyFileSync(CLIENT, path.join(this.#programs, name));
    }
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#serve(socket));
    this.#server.listen(path.join(this.#programs, 'model.sock'));
  }

  /** The manager, once it answers. */
  async startManager(): Promise<void> {
    const script = `set -e
      mount -t tmpfs none /run
      mount --bind ${this.#programs} /usr/local/sbin
      mount --bind ${this.#programs} /usr/lib/udev
      mount -t tmpfs none /etc/modprobe.d
      mount --bind ${this.#state} /var/lib
      exec ${process.execPath} ${MAIN} manage`;
    const args = ['-m', '--propagation', 'private', 'sh', '-c', script];
    this.#manager = follow(spawn('unshare', args, { stdio: ['ignore', 'pipe', 'pipe'] }));
    const deadline = performance.now() + READY_MS;
    let last: Ended | undefined;
    while (performance.now() < deadline) {
      last = await this.run('pool', 'list');
      if (last.status === 0) return;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    throw new Error(`ringdisk manage does not answer: ${last?.stderr}`);
  }

  async killManager(signal: NodeJS.Signals): Promise<Ended | undefined> {
    this.#manager?.child.kill(signal);
    return this.#manager?.ended;
  }

  async close(): Promise<void> {
    await this.killManager('SIGKILL');
    this.#server.close();
  }

  /** What runs `ringdisk` on this host: a command and its first words. */
  get command(): string[] {
    const pid = String(this.#manager?.child.pid);
    return ['nsenter', '-t', pid, '-m', process.execPath, MAIN];
  }

  run(...args: string[]): Promise<Ended> {
    const [program = '', ...words] = this.command;
    return follow(spawn(program, [...words, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })).ended;
  }

  /** Throws where it fails. */
  async json<T>(...args: string[]): Promise<T> {
    const { status, stdout, stderr } = await this.run(...args, '--json');
    if (status !== 0) throw new Error(`${args.join(' ')}: ${status} ${stdout}${stderr}`);
    return (JSON.parse(stdout) as { result: T }).result;
  }

  #serve(socket: Socket): void {
    socket.on('error', () => socket.destroy());
    let head = Buffer.alloc(0);
    const onData = (chunk: Buffer) => {
      head = Buffer.concat([head, chunk]);
      const end = head.indexOf(10);
      if (end === -1) return;
      socket.off('data', onData);
      socket.pause();
      const { program, args } = JSON.parse(head.subarray(0, end).toString());
      socket.unshift(head.subarray(end + 1));
      void this.#answer(socket, program, args);
    };
    socket.on('data', onData);
  }

  async #answer(socket: Socket, program: string, args: string[]): Promise<void> {
    const frame = (kind: string, content: Buffer) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(content.length);
      return socket.write(Buffer.concat([Buffer.from(kind), length, content]));
    };
    const isStream =
      ['send', 'receive'].includes(args[0] ?? '') && !/^-(nvP|A)$/.test(args[1] ?? '');
    try {
      if (program === 'zfs' && isStream) {
        const { stdin, stdout, ended, kill } = this.streams.start(program, args);
        socket.once('close', kill);
        socket.pipe(stdin);
        for await (const chunk of stdout) {
          if (!frame('o', chunk)) await new Promise((resolve) => socket.once('drain', resolve));
        }
        await ended;
      } else {
        socket.resume();
        frame('o', Buffer.from(await this.zfs.run(program, args)));
      }
      frame('x', Buffer.from([0]));
    } catch (error) {
      frame('e', Buffer.from(error instanceof ZfsError ? error.words : String(error)));
      frame('x', Buffer.from([1]));
    }
    socket.end();
  }
}
