// SPDX-License-Identifier: Apache-2.0
// A real Ceph cluster of one monitor and one OSD on loopback, in a folder of its own.
import { execFileSync, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import { startOfProcess } from '../../src/formats/helper_record.ts';

const OSD_BYTES = 2 * 1024 ** 3;
/** The least that ceph-osd takes. */
const OSD_MEMORY_BYTES = 939_524_096;

const NEEDED = {
  'ceph-mon': '/usr/bin/ceph-mon',
  'ceph-osd': '/usr/bin/ceph-osd',
  'ceph-common': '/usr/bin/rbd',
  'qemu-block-extra': '/usr/lib/x86_64-linux-gnu/qemu/block-rbd.so',
};

/** Why there is no cluster here; undefined: there is one to be had. */
export function whyNoCeph(): string | undefined {
  const missing = Object.entries(NEEDED).filter(([, file]) => !existsSync(file));
  const packages = missing.map(([name]) => name).join(' ');
  return missing.length === 0 ? undefined : `no Ceph (apt-get install ${packages})`;
}

export class Ceph {
  readonly conf: string;
  readonly #folder: string;
  #osd = 0;
  #monitor = 0;

  private constructor(folder: string) {
    this.#folder = folder;
    this.conf = path.join(folder, 'ceph.conf');
  }

  static async start(folder: string): Promise<Ceph> {
    const ceph = new Ceph(folder);
    for (const name of ['', 'mon', 'osd']) mkdirSync(path.join(folder, name));
    const fsid = randomUUID();
    const address = `v2:127.0.0.1:${await freePort()}`;
    writeFileSync(ceph.conf, configuration(folder, fsid, address));
    ceph.#run('ceph-authtool', '-C', ceph.#at('keyring'), '--gen-key', '-n', 'mon.');
    const monmap = ceph.#at('monmap');
    ceph.#run('monmaptool', '--create', '--fsid', fsid, '--addv', 'a', `[${address}]`, monmap);
    const keys = ['--monmap', monmap, '--keyring', ceph.#at('keyring')];
    ceph.#run('ceph-mon', '--mkfs', '-i', 'a', ...keys);
    ceph.#run('ceph-mon', '-i', 'a');
    ceph.#monitor = ceph.#pidOf('mon.a');
    const osd = randomUUID();
    ceph.#run('ceph', 'osd', 'new', osd, '0');
    ceph.#run('ceph-osd', '-i', '0', '--mkfs', '--osd-uuid', osd);
    ceph.startOsd();
    ceph.#run('ceph', 'osd', 'pool', 'create', 'rbd', '8');
    return ceph;
  }

  rbd(...args: string[]): string {
    return this.#run('rbd', ...args);
  }

  startOsd(): void {
    this.#run('ceph-osd', '-i', '0');
    this.#osd = this.#pidOf('osd.0');
  }

  /** As when its host loses power; what it acknowledged stays. */
  async killOsd(): Promise<void> {
    await end(this.#osd);
    this.#osd = 0;
  }

  async close(): Promise<void> {
    await end(this.#osd);
    await end(this.#monitor);
  }

  #at(name: string): string {
    return path.join(this.#folder, name);
  }

  #pidOf(name: string): number {
    return Number(readFileSync(this.#at(`${name}.pid`), 'utf8'));
  }

  #run(program: string, ...args: string[]): string {
    const env = { ...process.env, CEPH_CONF: this.conf };
    const stdio: 'pipe'[] = ['pipe', 'pipe', 'pipe'];
    return execFileSync(program, args, { encoding: 'utf8', env, stdio, timeout: 60_000 });
  }
}

function configuration(folder: string, fsid: string, address: string): string {
  return `[global]
fsid = ${fsid}
mon host = [${address}]
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd crush chooseleaf type = 0
mon allow pool size one = true
# A test's disk may be nearly full.
mon data avail crit = 0
run dir = ${folder}
admin socket = ${folder}/$name.$pid.asok
log file = ${folder}/$name.log
pid file = ${folder}/$name.pid
mon data = ${folder}/mon
osd data = ${folder}/osd
keyring = ${folder}/keyring
crash dir = ${folder}/crash
bluestore block size = ${OSD_BYTES}
# Else clients ask for a new map of the cluster after 10 to 15 s.
objecter timeout = 1
objecter tick interval = 0.5
osd memory target = ${OSD_MEMORY_BYTES}
`;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const address = server.address();
  await new Promise((done) => server.close(done));
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

/** Waits until it is gone: its files are another process's from then on. */
async function end(pid: number): Promise<void> {
  if (pid === 0) return;
  process.kill(pid, 'SIGKILL');
  const gone = spawn('tail', [`--pid=${pid}`, '-f', '/dev/null'], { stdio: 'ignore' });
  await new Promise((done) => gone.once('exit', done));
  if (startOfProcess(pid) !== undefined) throw new Error(`process ${pid} does not end`);
}
