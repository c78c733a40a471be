// SPDX-License-Identifier: Apache-2.0
// "ringdisk nbd-listen" and "nbd-connect" before a daemon's export, as processes.
import { afterAll, afterEach, beforeEach, expect } from 'vitest';
import { Authority } from './certificates.ts';
import { MIB, sparseFile } from './loopback_machine.ts';
import { client } from './nbd_client.ts';
import { RestartMachine } from './restart_machine.ts';
import { type Ended, type Started, start } from './serve_process.ts';

export const DISK_BYTES = 64 * MIB;
const forwardings: Forwarding[] = [];

/** One of the two commands; ended after the test. */
export class Forwarding {
  readonly #started: Started;
  log = '';

  constructor(started: Started) {
    this.#started = started;
    started.child.stderr?.on('data', (text: string) => {
      this.log += text;
    });
    forwardings.push(this);
  }

  static async of(...args: string[]): Promise<Forwarding> {
    const made = new Forwarding(start(args));
    await made.says('listening');
    return made;
  }

  async says(words: string): Promise<void> {
    await expect.poll(() => this.log, { timeout: 15_000, interval: 20 }).toContain(words);
  }

  get port(): number {
    return Number(/"port":(\d+)/.exec(this.log)?.[1]);
  }

  get pid(): number {
    return this.#started.child.pid ?? 0;
  }

  /** As libnbd writes it. */
  uri(certificates: string): string {
    return `nbds://localhost:${this.port}/disk?tls-certificates=${certificates}`;
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Ended> {
    this.#started.child.kill(signal);
    return this.#started.ended;
  }
}

/** A daemon that exports a disk, for each test, and certificates for all of them. */
export class TlsBench {
  readonly ours: Authority;
  readonly others: Authority;
  /** What clients and the server have, unless a test says otherwise. */
  readonly good: string;
  machine!: RestartMachine;
  /** The export's UNIX socket. */
  exported = '';

  constructor() {
    this.ours = new Authority();
    this.others = new Authority();
    this.good = this.ours.folder({ server: { name: 'localhost' }, client: { name: 'alice' } });
    beforeEach(() => this.#begin());
    afterEach(() => this.#end());
    afterAll(() => {
      this.ours.remove();
      this.others.remove();
    });
  }

  listen(...args: string[]): Promise<Forwarding> {
    const usual = ['--to', this.exported, '--certificates', this.good, '--port', '0'];
    return Forwarding.of('nbd-listen', ...usual, '--address', '127.0.0.1', ...args);
  }

  /** How many clients the export has now, as its daemon says. */
  async clients(): Promise<number> {
    const { stdout } = await this.machine.daemon.cli('export', 'list', '--json');
    return JSON.parse(stdout).result.exports[0].clients;
  }

  async #begin(): Promise<void> {
    this.machine = await RestartMachine.start();
    const image = sparseFile(this.machine.file('disk.img'), DISK_BYTES);
    this.exported = this.machine.file('nbd', 'disk.sock');
    await this.machine.daemon.cli('export', 'add', image, '--name', 'disk');
  }

  async #end(): Promise<void> {
    for (const one of forwardings.splice(0)) await one.stop('SIGKILL');
    await this.machine.close();
  }
}

/** Both certificates, of that authority. */
export function folderOf(authority: Authority): string {
  return authority.folder({ server: { name: 'localhost' }, client: { name: 'alice' } });
}

/** A script for libnbd: `h` is connected, and connected() makes more of it. */
export function nbdsh(uri: string, script: string): Promise<string> {
  const connected = [
    'import nbd',
    'def connected():',
    '    h = nbd.NBD()',
    '    h.set_uri_allow_local_file(True)',
    `    h.connect_uri(${JSON.stringify(uri)})`,
    '    return h',
    'h = connected()',
  ];
  return client('/usr/bin/python3', '-c', [...connected, script, 'h.shutdown()'].join('\n'));
}
